// A change of parameters and types: what it does to the cost, and to the loss of each sample, by following only the
// elements whose integers change.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "loss.hpp"
#include "network.hpp"

namespace refine {

// What LUTs cost, per bit: see hgq/resource/luts.py, which states the same formula in NumPy.
struct Prices {
    double constant, rectifier, saturation;
};

struct Change : Network {
    std::vector<Output> outputs;
    std::vector<double> losses;  // of each sample, as it stands
    Prices prices{};
    std::vector<double> cost;    // of each element
    std::vector<uint8_t> is_output;
    // What nothing reads costs nothing: for each element, how many living ones read it, and whether it lives.
    std::vector<int32_t> reads;
    std::vector<uint8_t> living;
    double total_cost = 0;

    // --- the change that is applied and not yet kept ---
    struct OldEntry { int entry; int64_t before, after; };
    struct OldBias { int element; int64_t before, after; };
    struct OldRule { int element; Rule rule; double width; };
    std::vector<OldEntry> entries;
    std::vector<OldBias> biases;
    std::vector<OldRule> rules;
    std::vector<std::pair<int, double>> values, costs;
    std::vector<std::pair<int, Type>> types;
    std::vector<int> toggled;
    double cost_before = 0;

    // --- scratch of one sample ---
    std::vector<uint64_t> dirty;
    std::vector<int64_t> delta, fresh;
    std::vector<int32_t> changed;
    std::vector<uint32_t> stamp;
    std::vector<double> z;
    uint32_t now = 0;

    void prepare() {
        dirty.assign(n / 64 + 1, 0);
        delta.assign(n, 0);
        fresh.assign(n, 0);
        stamp.assign(n, 0);
        is_output.assign(n, 0);
        size_t classes = 1;
        for (const Output& o : outputs) {
            for (int e : o.element) is_output[e] = 1;
            classes = std::max<size_t>(classes, o.classes);
        }
        z.assign(classes, 0);
        forward();
        losses.resize(samples);
        for (int s = 0; s < samples; s++) {
            const int64_t* x = row(s);
            losses[s] = sample_loss(s, [x](int e) { return x[e]; });
        }
        reads.assign(n, 0);
        living.assign(n, 0);
        for (int e = n - 1; e >= 0; e--) refresh(e);
        toggled.clear();
        cost.assign(n, 0);
        total_cost = 0;
        for (int e = 0; e < n; e++) total_cost += cost[e] = element_cost(e);
    }

    template <class Read>
    double sample_loss(int s, Read read) {
        double total = 0;
        for (const Output& o : outputs) total += o.loss(s, read, z.data());
        return total;
    }

    double element_cost(int e) const {
        if (!living[e]) return 0;
        if (kind[e] == LINEAR) return sum_cost(e);
        if (kind[e] != QUANTIZE || kind[from_source[from[e]]] == INPUT) return 0;  // the host rounds what enters
        return width[e] * (rule[e].rectified * prices.rectifier + (rule[e].overflow != WRAP) * prices.saturation);
    }

    double sum_cost(int e) const {
        double bits = 0, terms = 0;
        for (int k = sum_start[e]; k < sum_start[e + 1]; k++) {
            const int entry = sum_entry[k];
            const double w = width[source[entry]];
            if (w == 0) continue;
            const int d = digits(coefficient_of(entry));
            bits += w * d;
            terms += d;
        }
        return terms > 0 ? bits * (1 - 1 / terms) + prices.constant : 0;
    }

    // Finds out again whether an element lives, and lets its sources know.
    void refresh(int e) {
        const bool now_lives = (is_output[e] || reads[e] > 0) && (kind[e] != QUANTIZE || rule[e].live);
        if (now_lives == (living[e] != 0)) return;
        living[e] = now_lives;
        toggled.push_back(e);
        const int step = now_lives ? 1 : -1;
        for (int k = from[e]; k < from[e + 1]; k++) {
            reads[from_source[k]] += step;
            refresh(from_source[k]);
        }
        for (int k = sum_start[e]; k < sum_start[e + 1]; k++) {
            if (coefficient_of(sum_entry[k]) == 0) continue;
            reads[source[sum_entry[k]]] += step;
            refresh(source[sum_entry[k]]);
        }
    }

    // As set_coefficient, and who reads what follows.
    void replace(int entry, int64_t c) {
        const int step = (c != 0) - (coefficient_of(entry) != 0);
        set_coefficient(entry, c);
        if (step == 0 || !living[dst_of(entry)]) return;
        reads[source[entry]] += step;
        refresh(source[entry]);
    }

    // Sets parameters to values and groups of elements to types. One change at a time; then `keep` or `revert`.
    void apply(int count, const int32_t* params, const double* to, int groups, const int32_t* group, const Type* type_to) {
        cost_before = total_cost;
        for (int i = 0; i < count; i++) {
            const int p = params[i];
            values.emplace_back(p, value[p]);
            value[p] = to[i];
            for (int k = param_start[p]; k < param_start[p + 1]; k++) {
                const int entry = param_entry[k];
                const int64_t c = static_cast<int64_t>(to[i] * unit[entry]);
                entries.push_back({entry, coefficient_of(entry), c});
                replace(entry, c);
            }
            for (int k = bias_start[p]; k < bias_start[p + 1]; k++) {
                const int e = bias_element[k];
                const int64_t b = static_cast<int64_t>(std::ldexp(to[i], grid[e]));
                biases.push_back({e, bias[e], b});
                bias[e] = b;
            }
        }
        for (int i = 0; i < groups; i++) {
            types.emplace_back(group[i], type[group[i]]);
            type[group[i]] = type_to[i];
            for (int k = group_start[group[i]]; k < group_start[group[i] + 1]; k++) {
                const int e = group_element[k];
                rules.push_back({e, rule[e], width[e]});
                set_rule(e, type_to[i]);
                refresh(e);
            }
        }
        for (const OldEntry& o : entries) price(dst_of(o.entry));
        for (int e : toggled) price(e);
        for (const OldRule& o : rules) {
            price(o.element);
            for (int k = start[o.element]; k < start[o.element] + this->count[o.element]; k++) price(dst[k]);
        }
    }

    int dst_of(int entry) const { return dst[place_of_entry[entry]]; }

    void price(int e) {
        const double now_cost = element_cost(e);
        if (now_cost == cost[e]) return;
        costs.emplace_back(e, cost[e]);
        total_cost += now_cost - cost[e];
        cost[e] = now_cost;
    }

    void revert() {
        for (size_t i = costs.size(); i-- > 0;) cost[costs[i].first] = costs[i].second;
        for (size_t i = entries.size(); i-- > 0;) replace(entries[i].entry, entries[i].before);
        for (size_t i = biases.size(); i-- > 0;) bias[biases[i].element] = biases[i].before;
        for (size_t i = rules.size(); i-- > 0;) {
            rule[rules[i].element] = rules[i].rule;
            width[rules[i].element] = rules[i].width;
            refresh(rules[i].element);
        }
        for (size_t i = values.size(); i-- > 0;) value[values[i].first] = values[i].second;
        for (size_t i = types.size(); i-- > 0;) type[types[i].first] = types[i].second;
        total_cost = cost_before;
        forget();
    }

    void forget() {
        entries.clear(), biases.clear(), rules.clear(), values.clear(), costs.clear(), types.clear(), toggled.clear();
    }

    void keep() {
        for (int s = 0; s < samples; s++)
            if (follow(s)) {
                int64_t* x = row(s);
                losses[s] = sample_loss(s, [&](int e) { return stamp[e] == now ? fresh[e] : x[e]; });
                for (int e : changed) x[e] = fresh[e];
            } else {
                for (int e : changed) row(s)[e] = fresh[e];
            }
        forget();
    }

    void mark(int e) { dirty[e >> 6] |= uint64_t(1) << (e & 63); }

    // Follows the applied change through sample s: `changed` and `fresh` say which elements are what now. Returns
    // whether an output is among them.
    bool follow(int s) {
        const int64_t* x = row(s);
        if (++now == 0) {
            std::fill(stamp.begin(), stamp.end(), 0);
            now = 1;
        }
        changed.clear();
        bool any = false;
        for (const OldEntry& o : entries) {
            const int64_t v = x[source[o.entry]];
            if (v == 0) continue;
            const int e = dst_of(o.entry);
            delta[e] += (o.after - o.before) * v;
            mark(e);
            any = true;
        }
        for (const OldBias& o : biases) {
            delta[o.element] += o.after - o.before;
            mark(o.element);
            any = true;
        }
        for (const OldRule& o : rules) {
            mark(o.element);
            any = true;
        }
        if (!any) return false;
        bool reaches = false;
        for (size_t w = 0; w < dirty.size(); w++) {
            while (dirty[w]) {
                const int e = static_cast<int>(w * 64) + __builtin_ctzll(dirty[w]);
                dirty[w] &= dirty[w] - 1;
                int64_t v;
                if (kind[e] == LINEAR) {
                    v = x[e] + delta[e];
                    delta[e] = 0;
                } else {
                    v = compute(e, [&](int i) { return stamp[i] == now ? fresh[i] : x[i]; });
                }
                const int64_t d = v - x[e];
                if (d == 0) continue;
                fresh[e] = v;
                stamp[e] = now;
                changed.push_back(e);
                reaches |= is_output[e];
                for (int k = start[e], end = k + count[e]; k < end; k++) {
                    delta[dst[k]] += coefficient[k] * d;
                    mark(dst[k]);
                }
                for (int k = to[e]; k < to[e + 1]; k++) mark(to_user[k]);
            }
        }
        return reaches;
    }

    // By how much the applied change raises the losses of the samples first..last - 1: sum and sum of squares in
    // `out`; returns how many samples were looked at. Stops early, at a multiple of `chunk`, where the mean lies above
    // `limit` by more than `z_stop` standard errors.
    int evaluate(int first, int last, double limit, int chunk, double z_stop, double* out) {
        double sum = 0, squares = 0;
        int done = 0;
        for (int s = first; s < last; s++) {
            if (follow(s)) {
                const int64_t* x = row(s);
                const double up = sample_loss(s, [&](int e) { return stamp[e] == now ? fresh[e] : x[e]; }) - losses[s];
                sum += up;
                squares += up * up;
            }
            done++;
            if (done % chunk == 0) {
                const double mean = sum / done, variance = std::max(squares / done - mean * mean, 0.0);
                if (mean - z_stop * std::sqrt(variance / done) > limit) break;
            }
        }
        out[0] = sum;
        out[1] = squares;
        return done;
    }
};

}  // namespace refine
