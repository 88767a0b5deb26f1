// Losses of a sample, from the integers of the output elements. In double precision, in a fixed order.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace refine {

enum LossKind : int32_t { CROSS_ENTROPY, BINARY_CROSS_ENTROPY, SQUARED, ABSOLUTE, CROSS_ENTROPY_OF_PROBABILITIES,
                          BINARY_CROSS_ENTROPY_OF_PROBABILITIES };

// exp of x <= 0 to a relative error below 2e-9: the same on every machine, and the compiler can vectorise it.
inline double exponential(double x) {
    if (x < -700.0) return 0.0;
    const double t = x * 1.4426950408889634074;
    const double shifted = t + 6755399441055744.0;
    int64_t k;
    std::memcpy(&k, &shifted, 8);
    const double f = (t - (shifted - 6755399441055744.0)) * 0.69314718055994530942;
    double p = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6 + f * (1.0 / 24 + f * (1.0 / 120 + f * (1.0 / 720 + f * (1.0 / 5040)))))));
    const uint64_t scale = static_cast<uint64_t>((k << 52)) + (uint64_t(1023) << 52);
    double power;
    std::memcpy(&power, &scale, 8);
    return p * power;
}

// One output tensor: rows of `classes` elements; the loss is that of all rows, averaged, times the weight.
struct Output {
    LossKind kind;
    int rows, classes;
    double weight;
    std::vector<int32_t> element;
    std::vector<double> lsb;
    const float* target;  // samples x rows x classes

    static constexpr double TINY = 1e-7;  // Keras' epsilon

    template <class Read>
    double loss(int s, Read read, double* z) const {
        const float* t = target + static_cast<size_t>(s) * rows * classes;
        double total = 0;
        for (int r = 0; r < rows; r++, t += classes) {
            for (int k = 0; k < classes; k++) z[k] = read(element[r * classes + k]) * lsb[r * classes + k];
            total += row_loss(t, z);
        }
        return weight * total / rows;
    }

    double row_loss(const float* t, double* z) const {
        double sum = 0, total = 0;
        switch (kind) {
            case CROSS_ENTROPY: {
                double most = z[0], mass = 0, dot = 0;
                for (int k = 1; k < classes; k++) most = z[k] > most ? z[k] : most;
                for (int k = 0; k < classes; k++) {
                    mass += t[k];
                    dot += t[k] * (z[k] - most);
                    sum += exponential(z[k] - most);
                }
                return mass * std::log(sum) - dot;
            }
            case BINARY_CROSS_ENTROPY:
                for (int k = 0; k < classes; k++)
                    total += (z[k] > 0 ? z[k] : 0) - z[k] * t[k] + std::log1p(exponential(z[k] > 0 ? -z[k] : z[k]));
                return total / classes;
            case SQUARED:
                for (int k = 0; k < classes; k++) total += (z[k] - t[k]) * (z[k] - t[k]);
                return total / classes;
            case ABSOLUTE:
                for (int k = 0; k < classes; k++) total += std::fabs(z[k] - t[k]);
                return total / classes;
            case CROSS_ENTROPY_OF_PROBABILITIES:
                for (int k = 0; k < classes; k++) sum += z[k];
                for (int k = 0; k < classes; k++) total -= t[k] * std::log(within(sum > 0 ? z[k] / sum : 0));
                return total;
            case BINARY_CROSS_ENTROPY_OF_PROBABILITIES:
                for (int k = 0; k < classes; k++)
                    total -= t[k] * std::log(within(z[k])) + (1 - t[k]) * std::log(1 - within(z[k]));
                return total / classes;
        }
        return 0;
    }

    static double within(double p) { return p < TINY ? TINY : p > 1 - TINY ? 1 - TINY : p; }

    // d loss / d z of one row into `d`; `noise`: instead a random vector whose outer product is, on average, the
    // curvature of the loss (Gauss-Newton), made of the number `draw` in 0..1.
    void row_gradient(const float* t, const double* z, double* d, bool noise, double draw) const {
        double sum = 0, most = z[0], mass = 0;
        const double share = weight / rows;
        switch (kind) {
            case CROSS_ENTROPY:
                for (int k = 1; k < classes; k++) most = z[k] > most ? z[k] : most;
                for (int k = 0; k < classes; k++) sum += d[k] = exponential(z[k] - most);
                for (int k = 0; k < classes; k++) d[k] /= sum, mass += t[k];
                if (noise) {
                    int pick = 0;
                    for (double left = draw - d[0]; pick < classes - 1 && left > 0; left -= d[++pick]) {}
                    for (int k = 0; k < classes; k++) d[k] = (d[k] - (k == pick)) * std::sqrt(mass * share);
                } else {
                    for (int k = 0; k < classes; k++) d[k] = (mass * d[k] - t[k]) * share;
                }
                return;
            case BINARY_CROSS_ENTROPY:
                for (int k = 0; k < classes; k++) {
                    const double e = exponential(z[k] > 0 ? -z[k] : z[k]), p = z[k] > 0 ? 1 / (1 + e) : e / (1 + e);
                    d[k] = noise ? std::sqrt(p * (1 - p) * share / classes) * sign(draw, k) : (p - t[k]) * share / classes;
                }
                return;
            case SQUARED:
                for (int k = 0; k < classes; k++)
                    d[k] = noise ? std::sqrt(2 * share / classes) * sign(draw, k) : 2 * (z[k] - t[k]) * share / classes;
                return;
            case ABSOLUTE:
                for (int k = 0; k < classes; k++)
                    d[k] = noise ? std::sqrt(share / classes) * sign(draw, k)
                                 : (z[k] > t[k] ? 1 : z[k] < t[k] ? -1 : 0) * share / classes;
                return;
            case CROSS_ENTROPY_OF_PROBABILITIES:
                for (int k = 0; k < classes; k++) sum += z[k], mass += t[k];
                for (int k = 0; k < classes; k++) {
                    const double p = within(sum > 0 ? z[k] / sum : 0), total = sum > 0 ? sum : 1;
                    d[k] = noise ? std::sqrt(mass * share / p) / total * sign(draw, k)
                                 : (mass - t[k] / p) * share / total;
                }
                return;
            case BINARY_CROSS_ENTROPY_OF_PROBABILITIES:
                for (int k = 0; k < classes; k++) {
                    const double p = within(z[k]);
                    d[k] = noise ? std::sqrt(share / (classes * p * (1 - p))) * sign(draw, k)
                                 : (p - t[k]) / (p * (1 - p)) * share / classes;
                }
                return;
        }
    }

    static double sign(double draw, int k) {
        uint64_t h = static_cast<uint64_t>(draw * 9007199254740992.0) + 0x9E3779B97F4A7C15ull * (k + 1);
        h ^= h >> 31, h *= 0xBF58476D1CE4E5B9ull, h ^= h >> 27, h *= 0x94D049BB133111EBull;
        return h >> 63 ? 1.0 : -1.0;
    }
};

}  // namespace refine
