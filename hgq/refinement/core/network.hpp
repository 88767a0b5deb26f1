// A quantised network as single elements, each an integer at a fixed grid, and its values for every sample.
//
// Elements are numbered in topological order. A sum (LINEAR) holds bias + sum of coefficient * source; its terms are
// entries, which belong to parameters (weights) of the model: a weight of a convolution has an entry at each position.
// An entry of coefficient 0 stays in its list behind those that count, so that its weight may come back.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace refine {

enum Kind : uint8_t { INPUT, LINEAR, QUANTIZE, RELU, CLIP, LOOKUP, MAXIMUM, MINIMUM, PRODUCT };
enum Rounding : int32_t { TRN, RND, RND_CONV };
enum Overflow : int32_t { WRAP, SAT, SAT_SYM };

// Of a QUANTIZE: what becomes of an integer. Of CLIP: lo, hi after a shift up by -drop. Of LOOKUP: lo is subtracted
// after a shift down by `drop`, hi is the place of the first entry.
struct Rule {
    int32_t drop = 0, up = 0;
    int64_t lo = 0, hi = 0;
    int32_t rounding = TRN, overflow = WRAP;
    int32_t rectified = 0, live = 1;
};

// A trained type that elements share; width 0 is the constant 0.
struct Type {
    int32_t is_signed, bits, frac;  // bits without the sign
    int32_t live() const { return is_signed + bits > 0; }
    int32_t width() const { return is_signed + bits; }
};

inline int digits(int64_t c) {
    // Digits of the canonical signed-digit form: where c and 3c differ.
    const uint64_t m = static_cast<uint64_t>(c < 0 ? -c : c);
    return __builtin_popcountll(m ^ (3 * m));
}

struct Network {
    int n = 0, samples = 0;
    std::vector<uint8_t> kind;
    std::vector<int32_t> grid;   // fractional bits of each element
    std::vector<double> width;   // bits that an element has as an operand
    std::vector<Rule> rule;
    // Sources of all but LINEAR, with shifts to the element's grid.
    std::vector<int32_t> from, from_source, from_shift;
    // Users of each element that are not LINEAR.
    std::vector<int32_t> to, to_user;
    // Entries by source: those of list s are at start[s] .. start[s + 1], the first count[s] of which are not 0.
    std::vector<int32_t> start, count, dst, entry_of_place, place_of_entry, source;
    std::vector<int64_t> coefficient, bias;
    // Entries by parameter and by destination, as numbers of entries.
    std::vector<int32_t> param_start, param_entry, sum_start, sum_entry;
    std::vector<double> unit;          // of an entry: coefficient = value of the parameter * unit
    std::vector<int32_t> param_of;     // of an entry; -1: it is fixed
    std::vector<double> fixed;         // of an entry: its value where it is fixed
    std::vector<double> value;         // of each parameter
    // Biases: parameter -> elements.
    std::vector<int32_t> bias_start, bias_element, bias_param;
    // Types: group -> elements.
    std::vector<int32_t> group_start, group_element;
    std::vector<Type> type;
    std::vector<int64_t> table;
    std::vector<int64_t> base;  // samples x n

    int64_t* row(int s) { return base.data() + static_cast<size_t>(s) * n; }

    int64_t coefficient_of(int entry) const { return coefficient[place_of_entry[entry]]; }

    // Gives an entry another coefficient, and puts it among those that count or behind them.
    void set_coefficient(int entry, int64_t c) {
        int place = place_of_entry[entry];
        const int s = source[entry];
        const int64_t before = coefficient[place];
        if (before == 0 && c != 0) {
            swap_places(place, start[s] + count[s]);
            place = start[s] + count[s]++;
        } else if (before != 0 && c == 0) {
            swap_places(place, start[s] + --count[s]);
            place = start[s] + count[s];
        }
        coefficient[place] = c;
    }

    void swap_places(int a, int b) {
        std::swap(dst[a], dst[b]);
        std::swap(coefficient[a], coefficient[b]);
        std::swap(entry_of_place[a], entry_of_place[b]);
        place_of_entry[entry_of_place[a]] = a;
        place_of_entry[entry_of_place[b]] = b;
    }

    // The rule of a QUANTIZE element that follows from a type.
    void set_rule(int e, const Type& t) {
        Rule& r = rule[e];
        r.live = t.live();
        r.drop = grid[from_source[from[e]]] + from_shift[from[e]] - t.frac;
        r.up = grid[e] - t.frac;
        const int64_t top = int64_t(1) << t.bits;
        r.hi = top - 1;
        r.lo = t.is_signed ? (r.overflow == SAT_SYM ? -r.hi : -top) : 0;
        width[e] = t.width();
    }

    static int64_t quantize(const Rule& r, int64_t v) {
        if (!r.live) return 0;
        if (r.rectified && v < 0) v = 0;
        int64_t m;
        if (r.drop <= 0) {
            m = v << -r.drop;
        } else {
            m = v >> r.drop;
            if (r.rounding == RND) {
                m += v >> (r.drop - 1) & 1;
            } else if (r.rounding == RND_CONV) {
                const int64_t half = v >> (r.drop - 1) & 1;
                const int64_t below = v & ((int64_t(1) << (r.drop - 1)) - 1);
                m += half & (below != 0 || (m & 1));
            }
        }
        if (r.overflow == WRAP) {
            m = ((m - r.lo) & (r.hi - r.lo)) + r.lo;  // the size is a power of two
        } else {
            m = m < r.lo ? r.lo : m > r.hi ? r.hi : m;
        }
        return m << r.up;
    }

    // The value of an element that is no sum, given a way to read its sources.
    template <class Read>
    int64_t compute(int e, Read read) const {
        const int a = from[e], b = from[e + 1];
        const int64_t first = a < b ? read(from_source[a]) << from_shift[a] : 0;
        const Rule& r = rule[e];
        switch (kind[e]) {
            case QUANTIZE: return quantize(r, read(from_source[a]));
            case RELU: return first > 0 ? first : 0;
            case CLIP: return first < r.lo ? r.lo : first > r.hi ? r.hi : first;
            case LOOKUP: return table[r.hi + ((first >> r.drop) - r.lo)];
            case PRODUCT: return first * (read(from_source[a + 1]) << from_shift[a + 1]);
            case MAXIMUM:
            case MINIMUM: {
                int64_t best = first;
                for (int k = a + 1; k < b; k++) {
                    const int64_t v = read(from_source[k]) << from_shift[k];
                    if (kind[e] == MAXIMUM ? v > best : v < best) best = v;
                }
                return best;
            }
        }
        return 0;
    }

    // All values of all samples from those of the inputs.
    void forward() {
        for (int s = 0; s < samples; s++) {
            int64_t* x = row(s);
            for (int e = 0; e < n; e++)
                if (kind[e] == LINEAR) x[e] = bias[e];
            for (int e = 0; e < n; e++) {
                if (kind[e] != LINEAR && kind[e] != INPUT) x[e] = compute(e, [&](int i) { return x[i]; });
                if (x[e] == 0) continue;
                for (int k = start[e], end = k + count[e]; k < end; k++) x[dst[k]] += coefficient[k] * x[e];
            }
        }
    }
};

}  // namespace refine
