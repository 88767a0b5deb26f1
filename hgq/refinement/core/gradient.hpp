// First and second derivatives of the loss with respect to parameters, straight through the roundings: they say which
// changes are worth trying.
#pragma once

#include <cmath>
#include <vector>

#include "change.hpp"

namespace refine {

struct Gradient {
    Change& net;
    std::vector<double> slope, d, z, lsb, per_param;
    std::vector<int32_t> touched;

    explicit Gradient(Change& net) : net(net), slope(net.n), lsb(net.n), per_param(net.value.size()) {
        size_t classes = 1;
        for (const Output& o : net.outputs) classes = std::max<size_t>(classes, o.classes);
        d.assign(classes, 0);
        z.assign(classes, 0);
        for (int e = 0; e < net.n; e++) lsb[e] = std::ldexp(1.0, -net.grid[e]);
    }

    // Means over the samples first..last - 1 of the gradient and of the squares of a noise's gradient (the diagonal of
    // the Gauss-Newton matrix, on average). `dead`: also for parameters that are 0.
    void run(int first, int last, bool dead, double* gradient, double* curvature) {
        const size_t params = net.value.size();
        std::fill(gradient, gradient + params, 0.0);
        std::fill(curvature, curvature + params, 0.0);
        for (int s = first; s < last; s++) {
            backward(s, false, dead);
            for (int p : touched) gradient[p] += per_param[p], per_param[p] = 0;
            backward(s, true, dead);
            for (int p : touched) curvature[p] += per_param[p] * per_param[p], per_param[p] = 0;
        }
        const double share = 1.0 / std::max(last - first, 1);
        for (size_t p = 0; p < params; p++) gradient[p] *= share, curvature[p] *= share;
    }

    void add(int p, double g) {
        if (per_param[p] == 0) touched.push_back(p);  // twice at worst, and then its second part is 0
        per_param[p] += g;
    }

    // Slopes with respect to real values (not LSBs) of every element.
    void backward(int s, bool noise, bool dead) {
        const int64_t* x = net.row(s);
        std::fill(slope.begin(), slope.end(), 0.0);
        touched.clear();
        uint64_t h = 0x9E3779B97F4A7C15ull * (s + 1);
        for (const Output& o : net.outputs) {
            const float* t = o.target + static_cast<size_t>(s) * o.rows * o.classes;
            for (int r = 0; r < o.rows; r++, t += o.classes) {
                for (int k = 0; k < o.classes; k++) {
                    const int at = r * o.classes + k;
                    z[k] = x[o.element[at]] * o.lsb[at];
                }
                h ^= h >> 30, h *= 0xBF58476D1CE4E5B9ull, h ^= h >> 27, h *= 0x94D049BB133111EBull, h ^= h >> 31;
                o.row_gradient(t, z.data(), d.data(), noise, static_cast<double>(h >> 11) / 9007199254740992.0);
                for (int k = 0; k < o.classes; k++) {
                    const int at = r * o.classes + k, e = o.element[at];
                    slope[e] += d[k] * o.lsb[at] / lsb[e];
                }
            }
        }
        for (int e = net.n - 1; e >= 0; e--) {
            // Whatever reads an element comes later in the order: its slope is complete.
            const int begin = net.start[e], live = begin + net.count[e], end = dead ? net.start[e + 1] : live;
            double through = 0;
            for (int k = begin; k < live; k++) through += slope[net.dst[k]] * lsb[net.dst[k]] * net.coefficient[k];
            if (x[e] != 0)
                for (int k = begin; k < end; k++) {
                    const double up = slope[net.dst[k]];
                    const int entry = net.entry_of_place[k], p = net.param_of[entry];
                    if (up != 0 && p >= 0) add(p, up * lsb[net.dst[k]] * x[e] * net.unit[entry]);
                }
            const double g = slope[e] += through / lsb[e];
            if (g == 0) continue;
            if (net.kind[e] == LINEAR) {
                if (net.bias_param[e] >= 0) add(net.bias_param[e], g);
            } else {
                pass(e, g, x);
            }
        }
    }

    // From an element that is no sum to its sources.
    void pass(int e, double g, const int64_t* x) {
        const int a = net.from[e], b = net.from[e + 1];
        if (a == b) return;
        const int source = net.from_source[a], shift = net.from_shift[a];
        const Rule& r = net.rule[e];
        if (net.kind[e] == QUANTIZE) {
            const int64_t m = x[e] >> r.up;
            if (!r.live || (r.rectified && x[source] <= 0)) return;
            if (r.overflow != WRAP && (m == r.lo || m == r.hi)) return;
            slope[source] += g * std::ldexp(1.0, -shift);
            return;
        }
        const double each = g * lsb[e] * std::ldexp(1.0, shift) / lsb[source];
        const int64_t v = x[source] << shift;
        switch (net.kind[e]) {
            case RELU:
                if (v > 0) slope[source] += each;
                return;
            case CLIP:
                if (v > r.lo && v < r.hi) slope[source] += each;
                return;
            case PRODUCT: {
                const int other = net.from_source[a + 1];
                slope[source] += each * x[other];
                slope[other] += g * lsb[e] * x[source] / lsb[other];
                return;
            }
            case MAXIMUM:
            case MINIMUM:
                for (int k = a; k < b; k++) {
                    const int s = net.from_source[k];
                    if (x[s] << net.from_shift[k] != x[e]) continue;
                    slope[s] += g * lsb[e] * std::ldexp(1.0, net.from_shift[k]) / lsb[s];
                    return;
                }
                return;
            default:
                return;  // a table is a step function: what stands before one is judged by trying alone
        }
    }
};

}  // namespace refine
