/* A pass of a small Llama, Qwen2 or Qwen3 on one core, forwards and backwards, in fp32: see
   native.py.

   A sequence goes through at a time, so that what it leaves for its gradients stays near the core.
   Rows of all matrices are padded by zeros to whole vectors. Sums have a fixed order: the same
   numbers give the same bits. `d...` is the gradient of what it names. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Half __attribute__((vector_size(2 * LANES)));
typedef float Quarter __attribute__((vector_size(LANES)));
typedef int32_t Lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))
#define AT(p) (*(Vector *)(p))
#define EACH(i, n) for (long i = 0; i < (n); i += LANES)

static const Lanes LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const Vector NONE = {0};

/* Queries of attention at a time. */
enum { BLOCK = 32 };

INLINE Vector all(float x) { return NONE + x; }

INLINE Vector where(Lanes mask, Vector yes, Vector no) {
    return (Vector)(((Lanes)yes & mask) | ((Lanes)no & ~mask));
}

INLINE float sum(Vector x) {
    union { Vector whole; Half half[2]; } a = {x};
    union { Half whole; Quarter half[2]; } b = {a.half[0] + a.half[1]};
    Quarter c = b.half[0] + b.half[1];
    return (c[0] + c[1]) + (c[2] + c[3]);
}

INLINE float largest(Vector x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* e^x = 2^n e^r, with n the whole number nearest to x / ln 2 and e^r = 1 + r + r^2 p(r); p is the
   polynomial of least relative error for |r| <= ln 2 / 2 (3e-9). To 1e-7 from -87 to 88; 0 below,
   and above as there. NaN stays NaN. */
INLINE Vector exponential(Vector x) {
    Lanes nothing = x < -87.0f;
    x = where(x > 88.0f, all(88.0f), x);
    const float whole = 12582912.0f; /* 1.5 * 2^23: fractions of a sum with it are rounded away */
    Vector shifted = x * 1.44269504f + whole, n = shifted - whole;
    Vector r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2, in two parts */
    Vector p = r * 1.38145400e-3f + 8.36874512e-3f;
    p = p * r + 4.16683908e-2f;
    p = p * r + 1.66665204e-1f;
    p = p * r + 4.99999934e-1f;
    p = (p * r * r + r + 1.0f) * (Vector)(((Bits)shifted << 23) + (127u << 23));
    return where(nothing, NONE, p);
}

/* Columns that are computed of n, and what a row of them takes: an odd number of vectors, since
   rows a power of two apart would share few places of the cache. */
static long padded(long n) { return (n + LANES - 1) / LANES * LANES; }
static long stride(long n) { return LANES * (((n + LANES - 1) / LANES) | 1); }

#ifdef __AVX512F__
enum { HIGH = 8, WIDE = 2 };
#else
enum { HIGH = 4, WIDE = 1 };
#endif

/* A part of c (+)= a b, so many rows and vectors of it, held in registers. */
INLINE void tile(const int high, const int wide, long k, const float *a, long row, long column,
                 const float *b, long ldb, float *c, long ldc, int add) {
    Vector held[HIGH][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < high; i++)
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++)
            held[i][j] = add ? AT(c + i * ldc + j * LANES) : NONE;
    for (long p = 0; p < k; p++) {
#pragma GCC unroll 8
        for (int i = 0; i < high; i++)
#pragma GCC unroll 2
            for (int j = 0; j < wide; j++)
                held[i][j] += a[i * row + p * column] * AT(b + p * ldb + j * LANES);
    }
#pragma GCC unroll 8
    for (int i = 0; i < high; i++)
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++) AT(c + i * ldc + j * LANES) = held[i][j];
}

/* Rows of b at a time: a panel of them, or the lines that a turned a takes, stays near the core. */
enum { DEEP = 256, DEEP_TURNED = 128, WORTH_COPYING = 64 };

/* So many vectors of columns of c, which are (k, n) b's times all rows of a. */
INLINE void columns(const int wide, long m, long k, const float *a, long row, long column,
                    const float *b, long ldb, float *c, long ldc, int add) {
    long i = 0;
    for (; i + HIGH <= m; i += HIGH)
        tile(HIGH, wide, k, a + i * row, row, column, b, ldb, c + i * ldc, ldc, add);
    for (; i < m; i++) tile(1, wide, k, a + i * row, row, column, b, ldb, c + i * ldc, ldc, add);
}

/* (m, n) c (+)= a b, of (k, n) b; a's (i, p) lies at i * row + p * column. n: whole vectors. */
static void multiply(long m, long n, long k, const float *a, long row, long column,
                     const float *b, long ldb, float *c, long ldc, int add) {
    const long wide = WIDE * LANES, most = column == 1 ? DEEP : DEEP_TURNED;
    float panel[DEEP * WIDE * LANES] __attribute__((aligned(64)));
    for (long deep; k > 0; k -= deep, a += deep * column, b += deep * ldb, add = 1) {
        deep = k < most ? k : most;
        long j = 0;
        for (; j + wide <= n; j += wide) {
            const float *from = b + j;
            long ld = ldb;
            if (m >= WORTH_COPYING) {
                for (long p = 0; p < deep; p++)
                    memcpy(panel + p * wide, from + p * ldb, sizeof(float) * wide);
                from = panel;
                ld = wide;
            }
            columns(WIDE, m, deep, a, row, column, from, ld, c + j, ldc, add);
        }
        for (; j < n; j += LANES) columns(1, m, deep, a, row, column, b + j, ldb, c + j, ldc, add);
    }
}

static void copy(long rows, long columns, const float *x, long ldx, float *y, long ldy) {
    for (long i = 0; i < rows; i++) memcpy(y + i * ldy, x + i * ldx, sizeof(float) * columns);
}

static void transpose(long m, long n, const float *x, long ldx, float *y, long ldy) {
    for (long first = 0; first < m; first += LANES)
        for (long j = 0; j < n; j++)
            for (long i = first; i < m && i < first + LANES; i++) y[j * ldy + i] = x[i * ldx + j];
}

/* A linear layer: y = x W^T. `weight` and its `gradient` (outputs, inputs), `turned` W^T. */
typedef struct {
    long inputs, outputs, ldi, ldo;
    float *weight, *turned, *gradient;
} Linear;

static void forward(const Linear *of, long time, const float *x, float *y, int add) {
    multiply(time, padded(of->outputs), of->inputs, x, of->ldi, 1, of->turned, of->ldo, y, of->ldo,
             add);
}

static void backward_weight(const Linear *of, long time, const float *x, const float *dy) {
    multiply(of->outputs, padded(of->inputs), time, dy, 1, of->ldo, x, of->ldi, of->gradient,
             of->ldi, 1);
}

static void backward_input(const Linear *of, long time, const float *dy, float *dx) {
    multiply(time, padded(of->inputs), of->outputs, dy, of->ldo, 1, of->weight, of->ldi, dx,
             of->ldi, 0);
}

static void backward(const Linear *of, long time, const float *x, const float *dy, float *dx) {
    backward_weight(of, time, x, dy);
    backward_input(of, time, dy, dx);
}

/* y = w x / sqrt(mean x^2 + epsilon), row by row; `scale` keeps the 1 / sqrt. */
static void norm(long time, long width, float epsilon, const float *weight, const float *x,
                 float *y, float *scale) {
    long ld = stride(width), whole = padded(width);
    for (long t = 0; t < time; t++, x += ld, y += ld) {
        Vector squares = NONE;
        EACH(i, whole) squares += AT(x + i) * AT(x + i);
        float s = scale[t] = 1.0f / sqrtf(sum(squares) / width + epsilon);
        EACH(i, whole) AT(y + i) = AT(x + i) * s * AT(weight + i);
    }
}

/* dx (+)= s (w dy - x s^2 mean(w dy x)), dw += dy x s. */
static void norm_backward(long time, long width, const float *weight, const float *x,
                          const float *scale, const float *dy, float *dweight, float *dx, int add) {
    long ld = stride(width), whole = padded(width);
    for (long t = 0; t < time; t++, x += ld, dy += ld, dx += ld) {
        float s = scale[t];
        Vector products = NONE;
        EACH(i, whole) {
            Vector product = AT(dy + i) * AT(x + i);
            products += product * AT(weight + i);
            AT(dweight + i) += product * s;
        }
        float mean = sum(products) * s * s / width;
        EACH(i, whole) {
            Vector d = s * (AT(dy + i) * AT(weight + i) - AT(x + i) * mean);
            if (add) d += AT(dx + i);
            AT(dx + i) = d;
        }
    }
}

typedef struct {
    int64_t layers, width, heads, shared_heads, head, ffn, vocab, time, tied, biased, normed;
    float epsilon, scaling;
} Shape;

typedef struct {
    Linear qkv, out, gated, down;
    float *bias, *dbias, *norm1, *dnorm1, *norm2, *dnorm2, *qnorm, *dqnorm, *knorm, *dknorm;
    /* Of the sequence at work: what comes in, normed, and its scales; what attention is given, what
       it finds and the logarithms of its sums; what comes out of it, normed, and its scales; the
       two halves of the gate; heads of queries and keys before their norms, and their scales. */
    float *x, *normed, *scale, *mixed, *found, *logsum, *x2, *normed2, *scale2, *halves;
    float *heads, *head_scale;
} Layer;

typedef struct {
    float *begin;
    long used;
} Arena;

typedef struct {
    Shape shape;
    Layer *layers;
    Linear head;
    float *embedding, *dembedding, *last_norm, *dlast_norm;
    float *x, *normed, *scale, *logits, *inner, *dinner, *dhalves, *dx, *dnormed, *dmixed, *dfound;
    /* Attention's, of a head. */
    float *query, *key, *value, *dquery, *dkey, *dvalue, *towards, *key_turned, *value_turned;
    float *weights, *dweights, *block;
    Arena memory, gradients;
} Model;

/* Heads of queries and of keys, normed over each by the weight of their kind (Qwen3). */
static void norm_heads(const Model *m, Layer *of) {
    const Shape *s = &m->shape;
    long ld = of->qkv.ldo, ldh = stride(s->head), queries = s->heads;
    for (long h = 0; h < queries + s->shared_heads; h++) {
        float *head = of->mixed + h * s->head, *kept = of->heads + h * s->time * ldh;
        copy(s->time, s->head, head, ld, kept, ldh);
        norm(s->time, s->head, s->epsilon, h < queries ? of->qnorm : of->knorm, kept, m->query,
             of->head_scale + h * s->time);
        copy(s->time, s->head, m->query, ldh, head, ld);
    }
}

static void norm_heads_backward(const Model *m, const Layer *of) {
    const Shape *s = &m->shape;
    long ld = of->qkv.ldo, ldh = stride(s->head), queries = s->heads;
    for (long h = 0; h < queries + s->shared_heads; h++) {
        float *dhead = m->dmixed + h * s->head;
        copy(s->time, s->head, dhead, ld, m->dquery, ldh);
        norm_backward(s->time, s->head, h < queries ? of->qnorm : of->knorm,
                      of->heads + h * s->time * ldh, of->head_scale + h * s->time, m->dquery,
                      h < queries ? of->dqnorm : of->dknorm, m->query, 0);
        copy(s->time, s->head, m->query, ldh, dhead, ld);
    }
}

/* One head of all positions, rotated by their angles (both halves of a head have the same), or
   back, and scaled. */
static void rotate(const Shape *of, const float *x, long ldx, float *y, long ldy,
                   const float *cosines, const float *sines, float scaling, float direction) {
    long half = of->head / 2;
    for (long t = 0; t < of->time; t++, x += ldx, y += ldy, cosines += of->head, sines += of->head)
        for (long i = 0, j = half; i < half; i++, j++) {
            float c = scaling * cosines[i], s = scaling * direction * sines[i];
            y[i] = x[i] * c - x[j] * s;
            y[j] = x[j] * c + x[i] * s;
        }
}

/* Logits of a block of queries from `first` with the keys up to its end. */
static void attend(const Model *m, long first, long count) {
    long ldh = stride(m->shape.head), ldt = stride(m->shape.time);
    multiply(count, padded(first + count), m->shape.head, m->query + first * ldh, ldh, 1,
             m->key_turned, ldt, m->weights, ldt, 0);
}

/* e^(logit - shift) of keys from `first` on, and 0 of those that the query does not know. */
INLINE Vector weigh(const float *logits, long first, long known, float shift) {
    Vector e = exponential(AT(logits + first) - shift);
    return first + LANES > known ? where(LANE < (int)(known - first), e, NONE) : e;
}

static long least(long a, long b) { return a < b ? a : b; }

/* Causal attention of a sequence, in blocks of queries; heads of queries share those of keys. */
static void attention(const Model *m, Layer *of, const float *cosines, const float *sines) {
    const Shape *s = &m->shape;
    long ldm = of->qkv.ldo, ldh = stride(s->head), ldt = stride(s->time), ldf = of->out.ldi;
    long group = s->heads / s->shared_heads;
    for (long shared = 0; shared < s->shared_heads; shared++) {
        const float *key = of->mixed + (s->heads + shared) * s->head;
        rotate(s, key, ldm, m->key, ldh, cosines, sines, 1, 1);
        copy(s->time, s->head, key + s->shared_heads * s->head, ldm, m->value, ldh);
        transpose(s->time, s->head, m->key, ldh, m->key_turned, ldt);
        for (long h = shared * group; h < (shared + 1) * group; h++) {
            rotate(s, of->mixed + h * s->head, ldm, m->query, ldh, cosines, sines, s->scaling, 1);
            for (long first = 0; first < s->time; first += BLOCK) {
                long count = least(BLOCK, s->time - first), end = first + count;
                float inverse[BLOCK];
                attend(m, first, count);
                for (long i = 0; i < count; i++) {
                    float *w = m->weights + i * ldt;
                    long known = first + i + 1;
                    Vector top = all(-INFINITY), total = NONE;
                    EACH(j, known) {
                        Vector seen = AT(w + j);
                        if (j + LANES > known) seen = where(LANE < (int)(known - j), seen, top);
                        top = where(seen > top, seen, top);
                    }
                    float most = largest(top);
                    EACH(j, padded(end)) {
                        AT(w + j) = weigh(w, j, known, most);
                        total += AT(w + j);
                    }
                    float summed = sum(total);
                    inverse[i] = 1.0f / summed;
                    of->logsum[h * s->time + first + i] = most + logf(summed);
                }
                multiply(count, padded(s->head), end, m->weights, ldt, 1, m->value, ldh, m->block,
                         ldh, 0);
                for (long i = 0; i < count; i++) {
                    float *found = of->found + (first + i) * ldf + h * s->head;
                    for (long j = 0; j < s->head; j++)
                        found[j] = m->block[i * ldh + j] * inverse[i];
                }
            }
        }
    }
}

/* With P the weights, dV = P^T dO, dS = P (dO V^T - rowsum(dO O)), dQ = dS K, dK = dS^T Q. */
static void attention_backward(const Model *m, const Layer *of, const float *cosines,
                               const float *sines) {
    const Shape *s = &m->shape;
    long ldm = of->qkv.ldo, ldh = stride(s->head), ldt = stride(s->time), ldf = of->out.ldi;
    long group = s->heads / s->shared_heads, columns = padded(s->head);
    for (long shared = 0; shared < s->shared_heads; shared++) {
        long key = (s->heads + shared) * s->head, value = key + s->shared_heads * s->head;
        rotate(s, of->mixed + key, ldm, m->key, ldh, cosines, sines, 1, 1);
        copy(s->time, s->head, of->mixed + value, ldm, m->value, ldh);
        transpose(s->time, s->head, m->key, ldh, m->key_turned, ldt);
        transpose(s->time, s->head, m->value, ldh, m->value_turned, ldt);
        memset(m->dkey, 0, sizeof(float) * s->time * ldh);
        memset(m->dvalue, 0, sizeof(float) * s->time * ldh);
        for (long h = shared * group; h < (shared + 1) * group; h++) {
            rotate(s, of->mixed + h * s->head, ldm, m->query, ldh, cosines, sines, s->scaling, 1);
            copy(s->time, s->head, m->dfound + h * s->head, ldf, m->towards, ldh);
            for (long first = 0; first < s->time; first += BLOCK) {
                long count = least(BLOCK, s->time - first), end = first + count;
                const float *towards = m->towards + first * ldh;
                attend(m, first, count);
                multiply(count, padded(end), s->head, towards, ldh, 1, m->value_turned, ldt,
                         m->dweights, ldt, 0);
                for (long i = 0; i < count; i++) {
                    const float *found = of->found + (first + i) * ldf + h * s->head;
                    float *w = m->weights + i * ldt, *d = m->dweights + i * ldt, mean = 0;
                    float logsum = of->logsum[h * s->time + first + i];
                    long known = first + i + 1;
                    for (long j = 0; j < s->head; j++) mean += towards[i * ldh + j] * found[j];
                    EACH(j, padded(end)) {
                        AT(w + j) = weigh(w, j, known, logsum);
                        AT(d + j) = AT(w + j) * (AT(d + j) - mean);
                    }
                }
                multiply(end, columns, count, m->weights, 1, ldt, towards, ldh, m->dvalue, ldh, 1);
                multiply(end, columns, count, m->dweights, 1, ldt, m->query + first * ldh, ldh,
                         m->dkey, ldh, 1);
                multiply(count, columns, end, m->dweights, ldt, 1, m->key, ldh,
                         m->dquery + first * ldh, ldh, 0);
            }
            rotate(s, m->dquery, ldh, m->dmixed + h * s->head, ldm, cosines, sines, s->scaling, -1);
        }
        rotate(s, m->dkey, ldh, m->dmixed + key, ldm, cosines, sines, 1, -1);
        copy(s->time, s->head, m->dvalue, ldh, m->dmixed + value, ldm);
    }
}

/* Logits become their gradient, softmax - onehot(target); returns the sum of NLL. */
static double score(long time, long vocab, float *logits, const int64_t *targets) {
    double total = 0;
    for (long t = 0; t < time; t++, logits += stride(vocab)) {
        for (long i = vocab; i < padded(vocab); i++) logits[i] = -INFINITY;
        Vector top = all(-INFINITY), sums = NONE;
        EACH(i, vocab) top = where(AT(logits + i) > top, AT(logits + i), top);
        float most = largest(top), wanted = logits[targets[t]];
        EACH(i, vocab) {
            Vector e = exponential(AT(logits + i) - most);
            AT(logits + i) = e;
            sums += e;
        }
        float summed = sum(sums);
        total += (double)logf(summed) - (wanted - most);
        EACH(i, vocab) AT(logits + i) *= 1.0f / summed;
        for (long i = vocab; i < padded(vocab); i++) logits[i] = 0;
        logits[targets[t]] -= 1.0f;
    }
    return total;
}

/* silu(gate) up, where silu(x) = x / (1 + e^-x); `halves` has gates and ups of a row in turn. */
static void gate(long time, long ffn, const float *halves, long ld, float *inner) {
    for (long t = 0; t < time; t++, halves += ld, inner += stride(ffn))
        EACH(i, ffn) {
            Vector g = AT(halves + i);
            AT(inner + i) = g / (1.0f + exponential(-g)) * AT(halves + padded(ffn) + i);
        }
}

/* The same again, and the gradient of the halves from that of what they gave. */
static void gate_backward(long time, long ffn, const float *halves, long ld, const float *dinner,
                          float *inner, float *dhalves) {
    for (long t = 0; t < time; t++, halves += ld, dhalves += ld) {
        EACH(i, ffn) {
            Vector g = AT(halves + i), up = AT(halves + padded(ffn) + i), d = AT(dinner + i);
            Vector sigmoid = 1.0f / (1.0f + exponential(-g)), silu = g * sigmoid;
            AT(inner + i) = silu * up;
            AT(dhalves + i) = d * up * (sigmoid + silu * (1.0f - sigmoid));
            AT(dhalves + padded(ffn) + i) = d * silu;
        }
        inner += stride(ffn);
        dinner += stride(ffn);
    }
}

static float *take(Arena *from, long count) {
    float *found = from->begin ? from->begin + from->used : NULL;
    from->used += padded(count);
    return found;
}

/* With the weight of something else. */
static Linear tied(Model *m, long inputs, long outputs, float *weight, float *gradient) {
    Linear of = {inputs, outputs, stride(inputs), stride(outputs), weight, NULL, gradient};
    of.turned = take(&m->memory, inputs * of.ldo);
    return of;
}

static Linear linear(Model *m, long inputs, long outputs) {
    long size = outputs * stride(inputs);
    return tied(m, inputs, outputs, take(&m->memory, size), take(&m->gradients, size));
}

/* Where everything lies; without memory, how much it takes. */
static void lay_out(Model *m) {
    const Shape *s = &m->shape;
    Arena *memory = &m->memory, *gradients = &m->gradients;
    long time = s->time, wide = stride(s->width), row = time * wide;
    long joined = (s->heads + 2 * s->shared_heads) * s->head, one = time * stride(s->head);
    memory->used = gradients->used = 0;
    m->embedding = take(memory, s->vocab * wide);
    m->dembedding = take(gradients, s->vocab * wide);
    for (Layer *of = m->layers; of < m->layers + s->layers; of++) {
        of->qkv = linear(m, s->width, joined);
        of->out = linear(m, s->heads * s->head, s->width);
        of->gated = linear(m, s->width, 2 * padded(s->ffn));
        of->down = linear(m, s->ffn, s->width);
        of->bias = take(memory, of->qkv.ldo);
        of->dbias = take(gradients, of->qkv.ldo);
        of->norm1 = take(memory, wide);
        of->dnorm1 = take(gradients, wide);
        of->norm2 = take(memory, wide);
        of->dnorm2 = take(gradients, wide);
        of->x = take(memory, row);
        of->normed = take(memory, row);
        of->scale = take(memory, time);
        of->mixed = take(memory, time * of->qkv.ldo);
        of->found = take(memory, time * of->out.ldi);
        of->logsum = take(memory, time * s->heads);
        of->x2 = take(memory, row);
        of->normed2 = take(memory, row);
        of->scale2 = take(memory, time);
        of->halves = take(memory, time * of->gated.ldo);
        if (!s->normed) continue;
        of->qnorm = take(memory, stride(s->head));
        of->dqnorm = take(gradients, stride(s->head));
        of->knorm = take(memory, stride(s->head));
        of->dknorm = take(gradients, stride(s->head));
        of->heads = take(memory, (s->heads + s->shared_heads) * one);
        of->head_scale = take(memory, (s->heads + s->shared_heads) * time);
    }
    m->last_norm = take(memory, wide);
    m->dlast_norm = take(gradients, wide);
    m->head = s->tied ? tied(m, s->width, s->vocab, m->embedding, m->dembedding)
                      : linear(m, s->width, s->vocab);
    m->x = take(memory, row);
    m->normed = take(memory, row);
    m->scale = take(memory, time);
    m->logits = take(memory, time * m->head.ldo);
    m->inner = take(memory, time * stride(s->ffn));
    m->dinner = take(memory, time * stride(s->ffn));
    m->dhalves = take(memory, time * stride(2 * padded(s->ffn)));
    m->dx = take(memory, row);
    m->dnormed = take(memory, row);
    m->dmixed = take(memory, time * stride(joined));
    m->dfound = take(memory, time * stride(s->heads * s->head));
    m->query = take(memory, one);
    m->key = take(memory, one);
    m->value = take(memory, one);
    m->dquery = take(memory, one);
    m->dkey = take(memory, one);
    m->dvalue = take(memory, one);
    m->towards = take(memory, one);
    m->key_turned = take(memory, s->head * stride(time));
    m->value_turned = take(memory, s->head * stride(time));
    m->weights = take(memory, BLOCK * stride(time));
    m->dweights = take(memory, BLOCK * stride(time));
    m->block = take(memory, BLOCK * stride(s->head));
}

static float *zeros(long count) {
    size_t bytes = (sizeof(float) * count + 63) / 64 * 64;
    float *found = aligned_alloc(64, bytes);
    return found ? memset(found, 0, bytes) : NULL;
}

void slam_close(Model *m) {
    if (!m) return;
    free(m->memory.begin);
    free(m->gradients.begin);
    free(m->layers);
    free(m);
}

/* Memory for a shape; NULL if there is not so much. */
Model *slam_open(const Shape *shape) {
    Model *m = calloc(1, sizeof(Model));
    if (!m) return NULL;
    m->shape = *shape;
    m->layers = calloc(shape->layers, sizeof(Layer));
    if (m->layers) {
        lay_out(m);
        m->memory.begin = zeros(m->memory.used);
        m->gradients.begin = zeros(m->gradients.used);
    }
    if (m->memory.begin && m->gradients.begin) {
        lay_out(m);
        return m;
    }
    slam_close(m);
    return NULL;
}

typedef void Visit(float *outside, float *inside, long rows, long columns, long ld);

static void fetch(float *outside, float *inside, long rows, long columns, long ld) {
    copy(rows, columns, outside, columns, inside, ld);
}

static void deliver(float *outside, float *inside, long rows, long columns, long ld) {
    copy(rows, columns, inside, ld, outside, columns);
}

/* Every parameter, or its gradient, in the order in which transformers has them. */
static void each(const Model *m, float *const *outside, int gradient, Visit *visit) {
    const Shape *s = &m->shape;
    long width = s->width, ld = stride(width);
    long rows[] = {s->heads * s->head, s->shared_heads * s->head, s->shared_heads * s->head};
    visit(*outside++, gradient ? m->dembedding : m->embedding, s->vocab, width, ld);
    for (const Layer *of = m->layers; of < m->layers + s->layers; of++) {
        float *qkv = gradient ? of->qkv.gradient : of->qkv.weight;
        float *bias = gradient ? of->dbias : of->bias;
        float *gated = gradient ? of->gated.gradient : of->gated.weight;
        for (int part = 0; part < 3; part++) {
            visit(*outside++, qkv, rows[part], width, ld);
            if (s->biased) visit(*outside++, bias, 1, rows[part], 0);
            qkv += rows[part] * ld;
            bias += rows[part];
        }
        visit(*outside++, gradient ? of->out.gradient : of->out.weight, width, of->out.inputs,
              of->out.ldi);
        if (s->normed) {
            visit(*outside++, gradient ? of->dqnorm : of->qnorm, 1, s->head, 0);
            visit(*outside++, gradient ? of->dknorm : of->knorm, 1, s->head, 0);
        }
        visit(*outside++, gated, s->ffn, width, ld);
        visit(*outside++, gated + padded(s->ffn) * ld, s->ffn, width, ld);
        visit(*outside++, gradient ? of->down.gradient : of->down.weight, width, s->ffn,
              of->down.ldi);
        visit(*outside++, gradient ? of->dnorm1 : of->norm1, 1, width, 0);
        visit(*outside++, gradient ? of->dnorm2 : of->norm2, 1, width, 0);
    }
    visit(*outside++, gradient ? m->dlast_norm : m->last_norm, 1, width, 0);
    if (!s->tied)
        visit(*outside, gradient ? m->head.gradient : m->head.weight, s->vocab, width, ld);
}

static void turn(const Linear *of) {
    transpose(of->outputs, of->inputs, of->weight, of->ldi, of->turned, of->ldo);
}

/* Sum of NLL of a sequence. */
static double forwards(const Model *m, const int64_t *ids, const float *cosines,
                       const float *sines) {
    const Shape *s = &m->shape;
    long time = s->time, width = s->width, ld = stride(width);
    float *x = m->layers[0].x;
    for (long t = 0; t < time; t++)
        memcpy(x + t * ld, m->embedding + ids[t] * ld, sizeof(float) * ld);
    for (Layer *of = m->layers; of < m->layers + s->layers; of++) {
        norm(time, width, s->epsilon, of->norm1, of->x, of->normed, of->scale);
        for (long t = 0; t < time; t++)
            memcpy(of->mixed + t * of->qkv.ldo, of->bias, sizeof(float) * of->qkv.ldo);
        forward(&of->qkv, time, of->normed, of->mixed, 1);
        if (s->normed) norm_heads(m, of);
        attention(m, of, cosines, sines);
        memcpy(of->x2, of->x, sizeof(float) * time * ld);
        forward(&of->out, time, of->found, of->x2, 1);
        norm(time, width, s->epsilon, of->norm2, of->x2, of->normed2, of->scale2);
        forward(&of->gated, time, of->normed2, of->halves, 0);
        gate(time, s->ffn, of->halves, of->gated.ldo, m->inner);
        x = of + 1 < m->layers + s->layers ? of[1].x : m->x;
        memcpy(x, of->x2, sizeof(float) * time * ld);
        forward(&of->down, time, m->inner, x, 1);
    }
    norm(time, width, s->epsilon, m->last_norm, m->x, m->normed, m->scale);
    forward(&m->head, time, m->normed, m->logits, 0);
    return score(time, s->vocab, m->logits, ids + 1);
}

/* Adds the gradients of the sequence that has gone forwards. */
static void backwards(const Model *m, const int64_t *ids, const float *cosines,
                      const float *sines) {
    const Shape *s = &m->shape;
    long time = s->time, width = s->width, ld = stride(width);
    backward(&m->head, time, m->normed, m->logits, m->dnormed);
    norm_backward(time, width, m->last_norm, m->x, m->scale, m->dnormed, m->dlast_norm, m->dx, 0);
    for (Layer *of = m->layers + s->layers - 1; of >= m->layers; of--) {
        /* What the gate gave was not kept: it comes again with the gradient of its halves. */
        backward_input(&of->down, time, m->dx, m->dinner);
        gate_backward(time, s->ffn, of->halves, of->gated.ldo, m->dinner, m->inner, m->dhalves);
        backward_weight(&of->down, time, m->inner, m->dx);
        backward(&of->gated, time, of->normed2, m->dhalves, m->dnormed);
        norm_backward(time, width, of->norm2, of->x2, of->scale2, m->dnormed, of->dnorm2, m->dx, 1);
        backward(&of->out, time, of->found, m->dx, m->dfound);
        attention_backward(m, of, cosines, sines);
        if (s->normed) norm_heads_backward(m, of);
        for (long t = 0; t < time; t++)
            EACH(i, of->qkv.outputs) AT(of->dbias + i) += AT(m->dmixed + t * of->qkv.ldo + i);
        backward(&of->qkv, time, of->normed, m->dmixed, m->dnormed);
        norm_backward(time, width, of->norm1, of->x, of->scale, m->dnormed, of->dnorm1, m->dx, 1);
    }
    for (long t = 0; t < time; t++)
        EACH(i, width) AT(m->dembedding + ids[t] * ld + i) += AT(m->dx + t * ld + i);
}

/* (count, time + 1) ids -> the sum of their NLL and, unless NULL, its gradients. */
double slam_pass(const Model *m, float *const *weights, float *const *gradients, const int64_t *ids,
                 int64_t count, const float *cosines, const float *sines) {
    double total = 0;
    each(m, weights, 0, fetch);
    for (const Layer *of = m->layers; of < m->layers + m->shape.layers; of++) {
        turn(&of->qkv);
        turn(&of->out);
        turn(&of->gated);
        turn(&of->down);
    }
    turn(&m->head);
    if (gradients) memset(m->gradients.begin, 0, sizeof(float) * m->gradients.used);
    for (; count--; ids += m->shape.time + 1) {
        total += forwards(m, ids, cosines, sines);
        if (gradients) backwards(m, ids, cosines, sines);
    }
    if (gradients) each(m, gradients, 1, deliver);
    return total;
}
