// One training step of the regressor in bf16, its matrix products apart: each function is one pass over memory.
//
// Arithmetic is float32; bf16 is how numbers are kept. No sum depends on the number of threads.
// B rows of a batch, D width of a layer. The compiler makes vectors of the plain loops.

#include <math.h>
#include <stdint.h>
#include <vector>

namespace {

typedef uint16_t bf16;

constexpr long kShares = 8;                  // groups of rows that sum up columns apart
constexpr long kChunk = 1 << 14;             // weights that are summed up apart
constexpr int kHalf = 1 << 15;
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

inline float wide(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    __builtin_memcpy(&y, &bits, 4);
    return y;
}

// Rounds to the nearest, ties to even.
inline bf16 narrow(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return (bf16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// e^x for x <= 0: 2^n times a polynomial of degree 6 (Taylor around 0, |r| <= ln 2 / 2); within 2e-7 of itself.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (1.6666667e-1f + r * (4.1666667e-2f + r * (8.3333333e-3f + r * 1.3888889e-3f)))));
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, 4);
    return p * power;
}

// The normal distribution up to x by Abramowitz and Stegun 7.1.26, within 1e-7; density is e^(-x^2 / 2).
inline float normal_share(float x, float density) {
    float t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * fabsf(x));
    float tail = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    float below = 0.5f * tail * density;
    return x < 0 ? below : 1.0f - below;
}

// The masks of dropout.py: 64-bit numbers of 4 levels each, from one that holds unit `first` on.
void draw(uint64_t base, long first, long units, uint64_t *number) {
    long from = first / 4, count = (first + units - 1) / 4 - from + 1;
#pragma omp simd
    for (long n = 0; n < count; n++) {
        uint64_t x = base + (uint64_t)(from + n) * kGolden;
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
        x = (x ^ x >> 27) * 0x94D049BB133111EBu;
        number[n] = x ^ x >> 31;
    }
}

}  // namespace

extern "C" {

// y = dropout(GELU(LayerNorm(sum + bias))); keeps slope, dy / d(LayerNorm's output), and mean and 1/deviation of rows.
void bindcache_activate(const bf16 *sum, const bf16 *bias, const bf16 *scale, const bf16 *shift, bf16 *y, bf16 *slope,
                        float *moments, long rows, long width, float least, uint64_t base, int dropped, int threads) {
    const float kept = 65536.0f / (65536 - dropped);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> row(width);
        std::vector<uint64_t> numbers(width / 4 + 2);
        float *x = row.data();
#pragma omp for schedule(static)
        for (long b = 0; b < rows; b++) {
            const bf16 *from = sum + b * width;
            bf16 *to = y + b * width, *steep = slope + b * width;
            float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
            for (long d = 0; d < width; d++) total += x[d] = wide(from[d]) + wide(bias[d]);
            const float mean = total / width;
#pragma omp simd reduction(+ : squares)
            for (long d = 0; d < width; d++) squares += (x[d] - mean) * (x[d] - mean);
            const float inverse = 1.0f / sqrtf(squares / width + least);
            moments[2 * b] = mean;
            moments[2 * b + 1] = inverse;
            if (dropped) draw(base, b * width, width, numbers.data());
            const int16_t *level = (const int16_t *)numbers.data() + b * width % 4;
#pragma omp simd
            for (long d = 0; d < width; d++) {
                float at = (x[d] - mean) * inverse * wide(scale[d]) + wide(shift[d]);
                float density = exponential(-0.5f * at * at), share = normal_share(at, density);
                float stays = level[d] >= dropped - kHalf ? kept : 0.0f;  // always, where none is dropped
                to[d] = narrow(at * share * stays);
                steep[d] = narrow((share + at * density * 0.39894228f) * stays);
            }
        }
    }
}

// Turns the gradient of y into that of the sum, in place; and gives those of bias, scale and shift.
void bindcache_activate_back(bf16 *gradient, const bf16 *slope, const bf16 *sum, const float *moments, const bf16 *bias,
                             const bf16 *scale, bf16 *dbias, bf16 *dscale, bf16 *dshift, long rows,
                             long width, int threads) {
    std::vector<float> columns(kShares * 3 * width);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> row(2 * width);
        float *normal = row.data(), *rise = normal + width;
#pragma omp for schedule(static)
        for (long share = 0; share < kShares; share++) {
            float *of_bias = columns.data() + share * 3 * width, *of_scale = of_bias + width, *of_shift = of_scale + width;
            for (long b = rows * share / kShares; b < rows * (share + 1) / kShares; b++) {
                const bf16 *steep = slope + b * width, *from = sum + b * width;
                bf16 *row_gradient = gradient + b * width;
                const float mean = moments[2 * b], inverse = moments[2 * b + 1];
                float total = 0, along = 0;
#pragma omp simd reduction(+ : total, along)
                for (long d = 0; d < width; d++) {
                    float outer = wide(row_gradient[d]) * wide(steep[d]);
                    normal[d] = (wide(from[d]) + wide(bias[d]) - mean) * inverse;
                    rise[d] = outer * wide(scale[d]);
                    total += rise[d];
                    along += rise[d] * normal[d];
                    of_scale[d] += outer * normal[d];
                    of_shift[d] += outer;
                }
                total /= width;
                along /= width;
#pragma omp simd
                for (long d = 0; d < width; d++) {
                    float inner = (rise[d] - total - normal[d] * along) * inverse;
                    row_gradient[d] = narrow(inner);
                    of_bias[d] += inner;
                }
            }
        }
#pragma omp for schedule(static)
        for (long d = 0; d < 3 * width; d++) {
            float total = 0;
            for (long share = 0; share < kShares; share++) total += columns[share * 3 * width + d];
            bf16 *to = d < width ? dbias : d < 2 * width ? dscale : dshift;
            to[d % width] = narrow(total);
        }
    }
}

// Gives the summed loss of a batch from the last layer's output y; and the gradients, over `pairs`, of y and of the
// head that makes scores of it. Loss and slope are those of regressor.py.
float bindcache_head(const bf16 *y, const bf16 *head, const bf16 *bias, const float *target, const float *weight,
                     bf16 *gradient, bf16 *dhead, bf16 *dbias, long rows, long width, float pairs, int huber) {
    std::vector<float> columns(width);
    float loss = 0, of_bias = 0;
    for (long b = 0; b < rows; b++, y += width, gradient += width) {
        float score = wide(*bias);
#pragma omp simd reduction(+ : score)
        for (long d = 0; d < width; d++) score += wide(y[d]) * wide(head[d]);
        const float error = score - target[b], size = fabsf(error);
        const bool far = huber && size > 1;
        loss += weight[b] * (far ? 2 * size - 1 : error * error);
        const float slope = weight[b] / pairs * (far ? copysignf(2, error) : 2 * error);
        of_bias += slope;
#pragma omp simd
        for (long d = 0; d < width; d++) {
            columns[d] += slope * wide(y[d]);
            gradient[d] = narrow(slope * wide(head[d]));
        }
    }
    *dbias = narrow(of_bias);
    for (long d = 0; d < width; d++) dhead[d] = narrow(columns[d]);
    return loss;
}

// The sum of squares.
double bindcache_squares(const bf16 *x, long count, int threads) {
    const long chunks = (count + kChunk - 1) / kChunk;
    std::vector<double> parts(chunks);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long chunk = 0; chunk < chunks; chunk++) {
        const long end = count < (chunk + 1) * kChunk ? count : (chunk + 1) * kChunk;
        float total = 0;
#pragma omp simd reduction(+ : total)
        for (long i = chunk * kChunk; i < end; i++) total += wide(x[i]) * wide(x[i]);
        parts[chunk] = total;
    }
    double whole = 0;
    for (double part : parts) whole += part;
    return whole;
}

// A step of AdamW (Loshchilov and Hutter 2019) with `share` of the gradient; `working` becomes the weights in bf16.
void bindcache_adamw(float *weight, const bf16 *gradient, float *first, float *second, bf16 *working, long count,
                     float share, float rate, float decay, float beta1, float beta2, float epsilon, float correction1,
                     float correction2, int threads) {
    const float keep = 1.0f - rate * decay, step = rate / correction1, root = 1.0f / sqrtf(correction2);
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (long i = 0; i < count; i++) {
        const float g = wide(gradient[i]) * share;
        const float m = first[i] + (1.0f - beta1) * (g - first[i]);
        const float v = beta2 * second[i] + (1.0f - beta2) * g * g;
        const float w = weight[i] * keep - step * m / (sqrtf(v) * root + epsilon);
        first[i] = m;
        second[i] = v;
        weight[i] = w;
        working[i] = narrow(w);
    }
}

}  // extern "C"
