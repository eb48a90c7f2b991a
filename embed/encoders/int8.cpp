// y = activation(x W^T + b) + residual in INT8, in one pass over memory; quantize.py tells the arithmetic.
//
// 1. each row of a tile of x becomes one or two rows of int8 (its terms), with its scale, in the L2 cache
// 2. the tile is multiplied by panels of 64 outputs with VNNI; scale, bias, activation and residual follow in registers
//
// Every output depends on its own row alone and is summed in the same order wherever the row lies.
// Built for the machine it runs on: needs AVX-512 with VNNI.

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace {

constexpr long kLanes = 16;                // float32 in a vector
constexpr long kVectors = 4;               // vectors across a panel of outputs
constexpr long kPanel = kLanes * kVectors; // outputs in a panel
constexpr long kDepth = 4;                 // products that one VNNI instruction adds up
constexpr long kRows = 6;                  // rows in registers: 6 x 4 sums, 4 weights, 1 broadcast of 32 registers
constexpr long kTile = 16 * kRows;         // rows that share a panel while it is in the L2 cache
constexpr long kSlice = 2048;              // inputs of a panel that stay in the L2 cache
constexpr long kShares = 4;                // tiles for each thread, at least, so that all end together
constexpr float kLevels = 127.0f;
constexpr float kFine = 254.0f;
constexpr int kOffset = 128;               // VNNI wants one unsigned side: weights are stored as w + 128

// By hand, since GCC spills half of the sums around the intrinsic, at half the speed.
#define MULTIPLY(sum, weight, spread) asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(spread))

long least(long a, long b) { return a < b ? a : b; }
long raised(long count, long unit) { return (count + unit - 1) / unit * unit; }

float largest(const float *x, long count) {
    __m512 most = _mm512_setzero_ps();
    for (long k = 0; k < count; k += kLanes) {
        __mmask16 kept = (__mmask16)((1u << least(kLanes, count - k)) - 1);
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(kept, x + k)));
    }
    return _mm512_reduce_max_ps(most);
}

// Writes `terms` rows of int8, and the sum of each, which takes the weights' offset out again.
void split(const float *x, long inputs, long padded, int terms, int8_t *rows, float *scale, int32_t *sums) {
    float most = largest(x, inputs);
    *scale = most > 0 ? most / kLevels : 1.0f;
    __m512 inverse = _mm512_set1_ps(1.0f / *scale);
    __m512i coarse_sum = _mm512_setzero_si512(), fine_sum = _mm512_setzero_si512();
    for (long k = 0; k < padded; k += kLanes) {
        long left = inputs - k < 0 ? 0 : least(kLanes, inputs - k);
        __mmask16 kept = (__mmask16)((1u << left) - 1), stored = (__mmask16)((1u << least(kLanes, padded - k)) - 1);
        __m512 levels = _mm512_mul_ps(_mm512_maskz_loadu_ps(kept, x + k), inverse);
        __m512i coarse = _mm512_cvtps_epi32(levels);
        coarse_sum = _mm512_add_epi32(coarse_sum, coarse);
        _mm512_mask_cvtsepi32_storeu_epi8(rows + k, stored, coarse);
        if (terms == 2) {
            __m512 rest = _mm512_sub_ps(levels, _mm512_cvtepi32_ps(coarse));
            __m512i fine = _mm512_cvtps_epi32(_mm512_mul_ps(rest, _mm512_set1_ps(kFine)));
            fine_sum = _mm512_add_epi32(fine_sum, fine);
            _mm512_mask_cvtsepi32_storeu_epi8(rows + padded + k, stored, fine);
        }
    }
    sums[0] = _mm512_reduce_add_epi32(coarse_sum);
    if (terms == 2) sums[1] = _mm512_reduce_add_epi32(fine_sum);
}

// Writes the products of `R` rows with one panel of weights to `sums`, or adds them.
template <int R>
void multiply(const int8_t *rows, long stride, const uint8_t *panel, long depth, bool add, int32_t *sums) {
    __m512i sum[R][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++)
            sum[r][v] = add ? _mm512_loadu_si512(sums + r * kPanel + v * kLanes) : _mm512_setzero_si512();
    for (long k = 0; k < depth; k += kDepth, panel += kDepth * kPanel) {
        const __m512i w0 = _mm512_loadu_si512(panel), w1 = _mm512_loadu_si512(panel + kDepth * kLanes),
                      w2 = _mm512_loadu_si512(panel + 2 * kDepth * kLanes),
                      w3 = _mm512_loadu_si512(panel + 3 * kDepth * kLanes);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            int32_t four;
            memcpy(&four, rows + r * stride + k, sizeof four);
            const __m512i spread = _mm512_set1_epi32(four);
            MULTIPLY(sum[r][0], w0, spread);
            MULTIPLY(sum[r][1], w1, spread);
            MULTIPLY(sum[r][2], w2, spread);
            MULTIPLY(sum[r][3], w3, spread);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) _mm512_storeu_si512(sums + r * kPanel + v * kLanes, sum[r][v]);
}

void multiply_rows(const int8_t *rows, long count, long stride, const uint8_t *panel, long depth, bool add,
                   int32_t *sums) {
    long r = 0;
    for (; r + kRows <= count; r += kRows)
        multiply<kRows>(rows + r * stride, stride, panel, depth, add, sums + r * kPanel);
    for (; r + 2 <= count; r += 2) multiply<2>(rows + r * stride, stride, panel, depth, add, sums + r * kPanel);
    for (; r < count; r++) multiply<1>(rows + r * stride, stride, panel, depth, add, sums + r * kPanel);
}

// erf as x P(x^2) / Q(x^2) on [-4, 4], fitted by weighted least squares (Lawson); within 4e-7 in float32.
__m512 erf(__m512 x) {
    constexpr float p[] = {1.128379182e+00f, 1.847111142e-01f, 5.433257195e-02f, 3.839544095e-03f,
                           3.826873110e-04f, 4.780387933e-06f, -1.366604245e-08f};
    constexpr float q[] = {1.0f, 4.970295082e-01f, 1.138265132e-01f, 1.545352880e-02f, 1.309575509e-03f,
                           6.400784665e-05f};
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(4.0f)), _mm512_set1_ps(-4.0f));
    __m512 square = _mm512_mul_ps(x, x), above = _mm512_set1_ps(p[6]), below = _mm512_set1_ps(q[5]);
    for (int i = 5; i >= 0; i--) above = _mm512_fmadd_ps(above, square, _mm512_set1_ps(p[i]));
    for (int i = 4; i >= 0; i--) below = _mm512_fmadd_ps(below, square, _mm512_set1_ps(q[i]));
    return _mm512_div_ps(_mm512_mul_ps(x, above), below);
}

enum Activation { kNone, kRelu, kGelu };

__m512 activate(__m512 y, int activation) {
    if (activation == kRelu) return _mm512_max_ps(y, _mm512_setzero_ps());
    if (activation == kNone) return y;
    __m512 half = _mm512_mul_ps(y, _mm512_set1_ps(0.5f));
    return _mm512_fmadd_ps(half, erf(_mm512_mul_ps(y, _mm512_set1_ps(0.70710678f))), half);
}

struct Layer {
    const uint8_t *weight; // [outputs / 64][inputs / 4][64][4], w + 128, padded with w = 0
    const float *scale;    // of each output
    const float *bias;     // of each output, or null
    long inputs, outputs;
    int terms, activation;
};

// sums [terms, 64] of one row and one panel -> 64 outputs
void finish(const Layer &layer, const int32_t *sums, const int32_t *row_sums, float scale, long first,
            const float *residual, float *y) {
    for (long n = first; n < least(first + kPanel, layer.outputs); n += kLanes, sums += kLanes) {
        __mmask16 kept = (__mmask16)((1u << least(kLanes, layer.outputs - n)) - 1);
        __m512i coarse = _mm512_sub_epi32(_mm512_loadu_si512(sums), _mm512_set1_epi32(kOffset * row_sums[0]));
        __m512 out = _mm512_cvtepi32_ps(coarse);
        if (layer.terms == 2) {
            __m512i fine = _mm512_sub_epi32(_mm512_loadu_si512(sums + kPanel), _mm512_set1_epi32(kOffset * row_sums[1]));
            out = _mm512_fmadd_ps(_mm512_cvtepi32_ps(fine), _mm512_set1_ps(1.0f / kFine), out);
        }
        out = _mm512_mul_ps(_mm512_mul_ps(out, _mm512_set1_ps(scale)), _mm512_maskz_loadu_ps(kept, layer.scale + n));
        if (layer.bias) out = _mm512_add_ps(out, _mm512_maskz_loadu_ps(kept, layer.bias + n));
        out = activate(out, layer.activation);
        if (residual) out = _mm512_add_ps(out, _mm512_maskz_loadu_ps(kept, residual + n));
        _mm512_mask_storeu_ps(y + n, kept, out);
    }
}

} // namespace

// x [rows, inputs], residual (or null) and y [rows, outputs] are float32 and contiguous.
extern "C" void bindcache_linear(const float *x, long rows, const uint8_t *weight, const float *scale,
                                 const float *bias, const float *residual, float *y, long inputs, long outputs,
                                 int terms, int activation, int threads) {
    const Layer layer = {weight, scale, bias, inputs, outputs, terms, activation};
    const long padded = raised(inputs, kDepth), unit = kRows / terms;
    const long tile = least(kTile / terms, raised((rows + kShares * threads - 1) / (kShares * threads), unit));
#pragma omp parallel num_threads(threads)
    {
        int8_t *term = (int8_t *)aligned_alloc(64, raised(tile * terms * padded, 64));
        float row_scale[kTile];
        int32_t row_sum[kTile];
        alignas(64) int32_t sums[kTile * kPanel];
#pragma omp for schedule(dynamic, 1)
        for (long first = 0; first < rows; first += tile) {
            const long count = least(tile, rows - first);
            for (long r = 0; r < count; r++)
                split(x + (first + r) * inputs, inputs, padded, terms, term + r * terms * padded, row_scale + r,
                      row_sum + r * terms);
            for (long n = 0; n < outputs; n += kPanel) {
                for (long k = 0; k < padded; k += kSlice)
                    multiply_rows(term + k, count * terms, padded, weight + n * padded + k * kPanel,
                                  least(kSlice, padded - k), k > 0, sums);
                for (long r = 0; r < count; r++)
                    finish(layer, sums + r * terms * kPanel, row_sum + r * terms, row_scale[r], n,
                           residual ? residual + (first + r) * outputs : nullptr, y + (first + r) * outputs);
            }
        }
        free(term);
    }
}
