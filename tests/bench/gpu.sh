#!/usr/bin/env bash
# What results/bench tells of a GPU, in the order of what is still missing:
#
#   bash tests/bench/gpu.sh [PART ...]
#
# Each part has a limit in seconds and stores its table when it ends; it is passed over the next
# time (build/gpu has the names of those that ended), so that a machine may be had in pieces.
# PYTHON is the interpreter, `Trainer` needs accelerate in it. TRY=1 runs each part at a small
# size on whatever device there is, into results/bench/try-*.json, which git ignores.
set -uo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
ended=build/gpu${TRY:+-try}
mkdir -p "$ended"
wanted=" $* "

part() {  # NAME SECONDS SCRIPT ARGUMENT ...
  local name=$1 limit=$2 script=$3
  shift 3
  [[ $wanted == "  " || $wanted == *" $name "* ]] || return 0
  [[ ! -e $ended/$name ]] || return 0
  echo "== $name"
  if [[ -n ${TRY:-} ]]; then
    case $script in
      step) set -- "$@" --sizes 60k --family llama --steps 6 --rounds 1 ;;
      packed) set -- "$@" --size 60k --steps 6 --runs 2 1 --sharing turns ;;
      stacked) set -- "$@" --sizes 60k --runs 2 --rounds 1 ;;
      documents) set -- "$@" --size 60k --steps 6 --rounds 1 ;;
    esac
    set -- "$@" --context 128 --units 1024
    name=try-$name limit=600  # compiled in small pieces by few cores
  fi
  timeout --signal INT --kill-after 40 "$limit" "${PYTHON:-python}" "tests/bench/$script.py" "$@" --out "$name" &&
    touch "$ended/${name#try-}"
}

part step-gpu-358m-joined 150 step --family qwen2 --sizes qwen2.5-0.5b --context 1024 --units 49152 \
  --steps 18 --rounds 2 --variants 'loop bf16-weights graphs' 'loop bf16-weights graphs joined'
part packed-gpu-1k 120 packed --size 5m --units 1024 --steps 600 --runs 8 1 --compile launches \
  --sharing mps
part step-gpu-85m 100 step --sizes 85m --context 1024 --units 32768 --steps 40 --rounds 2 \
  --variants 'loop bf16-weights graphs' 'trainer bf16'
part step-gpu-20m 100 step --sizes 20m --context 512 --units 16384 --steps 160 --rounds 2 \
  --variants 'loop bf16 graphs' 'trainer bf16'
part stacked-gpu 100 stacked --sizes 5m --runs 8 --context 512 --units 1024
part packed-gpu-1k-graphs 240 packed --size 5m --units 1024 --steps 600 --runs 8 1 --compile graphs \
  --sharing mps
part step-gpu-358m 240 step --family qwen2 --sizes qwen2.5-0.5b --context 1024 --units 131072 \
  --trainer-micro-batch 32768 --steps 12 --rounds 2 \
  --variants 'loop bf16-weights graphs' 'trainer bf16'
part step-gpu-5m 200 step --sizes 5m --context 512 --units 16384 --steps 240 --rounds 2 \
  --variants 'loop bf16 graphs' 'trainer bf16' 'loop bf16 launches' 'bare bf16 kernels'
part documents-gpu 200 documents
