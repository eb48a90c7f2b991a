// softmax(scale q k^T + bias) v in float32, for sequences laid end to end that each see themselves alone.
//
// One piece of work is one head of one sequence: its keys are laid out across, its values end to end, both in the L2
// cache, and blocks of six queries run over them. Nothing depends on the neighbours of a sequence.
// Built for the machine it runs on: needs AVX-512.

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

namespace {

constexpr long kLanes = 16; // float32 in a vector
constexpr int kRows = 6;    // queries in registers
constexpr int kVectors = 4; // vectors of each: 6 x 4 sums, 4 operands, 1 broadcast of 32 registers

// By hand and spelled out below: else GCC keeps the sums in memory, at half the speed.
#define MULTIPLY(sum, weight, spread) asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(spread))

long raised(long count, long unit) { return (count + unit - 1) / unit * unit; }

// e^x for x <= 0, within 2 ulp: 2^n e^r with a polynomial for |r| <= ln 2 / 2 (Taylor to the 7th power)
__m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-104.0f)); // below it float32 is zero
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    constexpr float term[] = {1.0f, 1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720, 1.0f / 5040};
    __m512 sum = _mm512_set1_ps(term[7]);
    for (int i = 6; i >= 0; i--) sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(term[i]));
    return _mm512_scalef_ps(sum, n);
}

// out [R, V vectors] = sum over `depth` of row[r * row_stride + i] * across[i * across_stride + ...]
template <int R, int V>
void product(const float *row, long row_stride, const float *across, long across_stride, long depth, float *out,
             long out_stride) {
    __m512 sum[R][V];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sum[r][v] = _mm512_setzero_ps();
    for (long i = 0; i < depth; i++, across += across_stride) {
        const __m512 w0 = _mm512_loadu_ps(across), w1 = V > 1 ? _mm512_loadu_ps(across + kLanes) : w0,
                     w2 = V > 2 ? _mm512_loadu_ps(across + 2 * kLanes) : w0,
                     w3 = V > 3 ? _mm512_loadu_ps(across + 3 * kLanes) : w0;
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const __m512 spread = _mm512_set1_ps(row[r * row_stride + i]);
            MULTIPLY(sum[r][0], w0, spread);
            if constexpr (V > 1) MULTIPLY(sum[r][1], w1, spread);
            if constexpr (V > 2) MULTIPLY(sum[r][2], w2, spread);
            if constexpr (V > 3) MULTIPLY(sum[r][3], w3, spread);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) _mm512_storeu_ps(out + r * out_stride + v * kLanes, sum[r][v]);
}

template <int R>
void product_across(const float *row, long row_stride, const float *across, long width, long depth, float *out,
                    long out_stride) {
    long n = 0;
    for (; n + kVectors * kLanes <= width; n += kVectors * kLanes)
        product<R, kVectors>(row, row_stride, across + n, width, depth, out + n, out_stride);
    for (; n + 2 * kLanes <= width; n += 2 * kLanes)
        product<R, 2>(row, row_stride, across + n, width, depth, out + n, out_stride);
    for (; n < width; n += kLanes) product<R, 1>(row, row_stride, across + n, width, depth, out + n, out_stride);
}

void product_rows(long rows, const float *row, long row_stride, const float *across, long width, long depth, float *out,
                  long out_stride) {
    if (rows == kRows) return product_across<kRows>(row, row_stride, across, width, depth, out, out_stride);
    for (long r = 0; r < rows; r++)
        product_across<1>(row + r * row_stride, row_stride, across, width, depth, out + r * out_stride, out_stride);
}

// Scores [width] of one query -> their exponentials, zero beyond `length`; returns the sum of these.
float soften(float *score, long length, long width, float scale, const float *bias) {
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (long k = 0; k < width; k += kLanes) {
        __mmask16 kept = (__mmask16)(k + kLanes <= length ? 0xffff : k < length ? (1u << (length - k)) - 1 : 0);
        __m512 x = _mm512_mul_ps(_mm512_loadu_ps(score + k), _mm512_set1_ps(scale));
        if (bias) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(kept, bias + k));
        x = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), kept, x);
        _mm512_storeu_ps(score + k, x);
        most = _mm512_max_ps(most, x);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 sum = _mm512_setzero_ps();
    for (long k = 0; k < width; k += kLanes) {
        __mmask16 kept = (__mmask16)(k + kLanes <= length ? 0xffff : k < length ? (1u << (length - k)) - 1 : 0);
        __m512 e = _mm512_maskz_mov_ps(kept, exponential(_mm512_sub_ps(_mm512_loadu_ps(score + k), top)));
        _mm512_storeu_ps(score + k, e);
        sum = _mm512_add_ps(sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}

struct Tensor {
    const float *data;
    long token, head; // strides in elements; the last one is 1
};

// Turns of the two halves of a head by place (Su et al. 2021), [places, width] each; or null.
struct Turns {
    const float *cos, *sin;
};

void turn(const float *x, long width, const Turns &turns, long place, float *y) {
    if (!turns.cos) {
        memcpy(y, x, sizeof(float) * width);
        return;
    }
    const float *cos = turns.cos + place * width, *sin = turns.sin + place * width;
    const long half = width / 2;
    for (long d = 0; d < half; d++) y[d] = x[d] * cos[d] - x[half + d] * sin[d];
    for (long d = 0; d < half; d++) y[half + d] = x[half + d] * cos[half + d] + x[d] * sin[half + d];
}

struct Scratch {
    float *across, *values, *queries, *scores, *out;

    static long floats(long length, long width) {
        const long keys = raised(length, kLanes), wide = raised(width, kLanes);
        return width * keys + length * wide + kRows * (keys + 2 * wide);
    }

    Scratch(float *start, long length, long width) {
        const long keys = raised(length, kLanes), wide = raised(width, kLanes);
        across = start;
        values = across + width * keys;
        queries = values + length * wide;
        scores = queries + kRows * wide;
        out = scores + kRows * keys;
    }
};

void attend(const Tensor &q, const Tensor &k, const Tensor &v, const Turns &turns, float *y, long start, long length,
            long head, long heads, long width, float scale, const float *bias, const Scratch &scratch) {
    const long keys = raised(length, kLanes), wide = raised(width, kLanes);
    for (long t = 0; t < length; t++) {
        turn(k.data + (start + t) * k.token + head * k.head, width, turns, t, scratch.out);
        for (long d = 0; d < width; d++) scratch.across[d * keys + t] = scratch.out[d];
        memcpy(scratch.values + t * wide, v.data + (start + t) * v.token + head * v.head, sizeof(float) * width);
        memset(scratch.values + t * wide + width, 0, sizeof(float) * (wide - width));
    }
    for (long d = 0; d < width; d++) memset(scratch.across + d * keys + length, 0, sizeof(float) * (keys - length));
    for (long t = 0; t < length; t += kRows) {
        const long rows = length - t < kRows ? length - t : kRows;
        for (long r = 0; r < rows; r++)
            turn(q.data + (start + t + r) * q.token + head * q.head, width, turns, t + r, scratch.queries + r * wide);
        product_rows(rows, scratch.queries, wide, scratch.across, keys, width, scratch.scores, keys);
        float share[kRows];
        for (long r = 0; r < rows; r++)
            share[r] = 1.0f / soften(scratch.scores + r * keys, length, keys, scale, bias ? bias - (t + r) : nullptr);
        product_rows(rows, scratch.scores, keys, scratch.values, wide, length, scratch.out, wide);
        for (long r = 0; r < rows; r++)
            for (long d = 0; d < width; d++)
                y[((start + t + r) * heads + head) * width + d] = scratch.out[r * wide + d] * share[r];
    }
}

} // namespace

// q, k and v are float32 with the given strides of a token and a head, y is [tokens, heads, width]. `starts` has one
// more entry than there are sequences. cos and sin (or null) are [places, width]. bias (or null) is
// [heads, 2 span - 1]: entry span - 1 + key - query of a head.
extern "C" void bindcache_attend(const float *q, long q_token, long q_head, const float *k, long k_token, long k_head,
                                 const float *v, long v_token, long v_head, float *y, const long *starts, long sequences,
                                 long heads, long width, float scale, const float *cos, const float *sin,
                                 const float *bias, long span, int threads) {
    long longest = 0;
    for (long s = 0; s < sequences; s++)
        longest = starts[s + 1] - starts[s] > longest ? starts[s + 1] - starts[s] : longest;
#pragma omp parallel num_threads(threads)
    {
        float *memory = (float *)aligned_alloc(64, raised(sizeof(float) * Scratch::floats(longest, width), 64));
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (long s = 0; s < sequences; s++)
            for (long h = 0; h < heads; h++) {
                const long length = starts[s + 1] - starts[s];
                attend({q, q_token, q_head}, {k, k_token, k_head}, {v, v_token, v_head}, {cos, sin}, y, starts[s], length,
                       h, heads, width, scale, bias ? bias + h * (2 * span - 1) + span - 1 : nullptr,
                       Scratch(memory, length, width));
            }
        free(memory);
    }
}
