"""A vocoder, an ASR model and a text LM of random weights, which take a moment each."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = ["<s>", "</s>", "<unk>", "a", "bird", "sang", "until", "dawn"]


def write_speech_models(root: Path, units: int = 20) -> Path:
    """asr/, lm/ and vocoder/ (of so many units) in a folder."""
    import transformers as t
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    torch.manual_seed(0)
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokens = t.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    for name in ("asr", "lm"):
        tokens.save_pretrained(root / name)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    whisper = t.WhisperConfig(
        vocab_size=len(WORDS),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=64,
        decoder_start_token_id=0,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **ids,
    )
    asr = t.WhisperForConditionalGeneration(whisper)
    with torch.no_grad():
        asr.model.decoder.embed_tokens.weight[:3] = 0  # it says words, not <s>, </s> and <unk>
    asr.save_pretrained(root / "asr")
    t.WhisperFeatureExtractor().save_pretrained(root / "asr")
    llama = t.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        **ids,
    )
    t.LlamaForCausalLM(llama).save_pretrained(root / "lm")
    gan = t.SeamlessM4TConfig(
        unit_hifi_gan_vocab_size=units,
        unit_embed_dim=8,
        lang_embed_dim=4,
        spkr_embed_dim=4,
        vocoder_num_langs=1,
        vocoder_num_spkrs=1,
        upsample_initial_channel=16,
        upsample_rates=[5, 4],
        upsample_kernel_sizes=[11, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
    )
    t.SeamlessM4TCodeHifiGan(gan).save_pretrained(root / "vocoder")
    return root
