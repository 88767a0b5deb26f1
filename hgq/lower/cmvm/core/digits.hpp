// Signed digits of coefficients, and which two-digit patterns a pair of coefficients holds.
//
// No digit string is stored: a digit d = +-2^k may be taken from c if c - d has one digit less in its shortest form.
// That covers every minimal signed-digit form at once (3 is 4 - 1 and 2 + 1), not only the canonical one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cmvm {

using i64 = std::int64_t;
using u64 = std::uint64_t;

inline int weight(i64 c) {  // number of signed digits that c needs
    u64 u = c < 0 ? u64(-c) : u64(c);
    return __builtin_popcountll(u ^ (3 * u));
}

inline int length(u64 v) { return v ? 64 - __builtin_clzll(v) : 0; }

inline int width(i64 lo, i64 hi) {  // bits of two's complement, or unsigned where lo >= 0
    int up = hi > 0 ? length(u64(hi)) : 0;
    return lo < 0 ? std::max(up, length(u64(~lo))) + 1 : up;
}

struct Coef {  // value = sign * (odd part << shift)
    i64 value = 0;
    int odd = -1;
    std::int16_t shift = 0;
    std::int8_t sign = 1, digits = 0;
};

struct Use {  // the pattern x_i + sign * (x_j << shift) can be taken `count` times
    std::int16_t shift;
    std::int8_t sign, count;
};

// Takes the pattern up to `limit` times, lowest digits first; `taken` grows by the digits of ci.
inline int take(i64& ci, i64& cj, int shift, int sign, int limit, i64& taken) {
    int n = 0, wi = weight(ci), wj = weight(cj);
    int end = std::min(length(u64(ci < 0 ? -ci : ci)), length(u64(cj < 0 ? -cj : cj)) - shift);
    for (int p = std::max(0, -shift); p <= end && n < limit && wi && wj; ++p) {
        for (int s = 1; s >= -1; s -= 2) {
            i64 di = s * (i64(1) << p), dj = sign * s * (i64(1) << (p + shift));
            if (weight(ci - di) == wi - 1 && weight(cj - dj) == wj - 1) {
                ci -= di, cj -= dj, taken += di;
                --wi, --wj, ++n;
                break;
            }
        }
    }
    return n;
}

// The same where both operands are one input: the two digits come from one coefficient.
inline int take_own(i64& c, int shift, int sign, int limit, i64& taken) {
    int n = 0, w = weight(c), end = length(u64(c < 0 ? -c : c)) - shift;
    for (int p = 0; p <= end && n < limit && w > 1; ++p) {
        for (int s = 1; s >= -1; s -= 2) {
            i64 d = s * (i64(1) << p), both = d + sign * d * (i64(1) << shift);
            if (weight(c - both) == w - 2) {
                c -= both, taken += d;
                w -= 2, ++n;
                break;
            }
        }
    }
    return n;
}

class Digits {  // memo of patterns by odd parts; signs and shifts are put back by whoever asks
public:
    Coef coef(i64 value) {
        Coef c;
        c.value = value;
        if (!value) return c;
        u64 u = value < 0 ? u64(-value) : u64(value);
        c.sign = value < 0 ? -1 : 1;
        c.shift = std::int16_t(__builtin_ctzll(u));
        u >>= c.shift;
        c.digits = std::int8_t(weight(value));
        if (u < small_.size()) {
            int& at = small_[u];
            if (at < 0) at = intern(i64(u));
            c.odd = at;
        } else {
            auto found = large_.find(i64(u));
            c.odd = found != large_.end() ? found->second : (large_[i64(u)] = intern(i64(u)));
        }
        return c;
    }

    // Patterns between two inputs with these odd parts, shifts counted from the odd parts' own digits.
    const std::vector<Use>& uses(int i, int j) {
        int* at;
        if (i < kTable && j < kTable) {
            at = &table_[std::size_t(i) * kTable + std::size_t(j)];
        } else {
            at = &beyond_.try_emplace((u64(i) << 32) | u64(j), -1).first->second;
        }
        if (*at < 0) {
            int made = find_uses(i, j);
            *at = made;
        }
        return lists_[std::size_t(*at)];
    }

    const std::vector<Use>& own_uses(int i) { return lists_[std::size_t(own_[std::size_t(i)])]; }

private:
    static constexpr int kTable = 384;

    int intern(i64 odd) {
        int at = int(odds_.size());
        odds_.push_back(odd);
        std::vector<Use> own;
        for (int shift = 1; shift <= length(u64(odd)); ++shift) {
            for (int sign = 1; sign >= -1; sign -= 2) {
                i64 c = odd, taken = 0;
                int n = take_own(c, shift, sign, 100, taken);
                if (n) own.push_back({std::int16_t(shift), std::int8_t(sign), std::int8_t(n)});
            }
        }
        own_.push_back(int(lists_.size()));
        lists_.push_back(std::move(own));
        return at;
    }

    int find_uses(int i, int j) {
        std::vector<Use> list;
        i64 a = odds_[std::size_t(i)], b = odds_[std::size_t(j)];
        for (int shift = -length(u64(a)); shift <= length(u64(b)); ++shift) {
            for (int sign = 1; sign >= -1; sign -= 2) {
                i64 ci = a, cj = b, taken = 0;
                int n = take(ci, cj, shift, sign, 100, taken);
                if (n) list.push_back({std::int16_t(shift), std::int8_t(sign), std::int8_t(n)});
            }
        }
        lists_.push_back(std::move(list));
        return int(lists_.size()) - 1;
    }

    std::vector<i64> odds_;
    std::vector<int> own_, small_ = std::vector<int>(4096, -1), table_ = std::vector<int>(kTable * kTable, -1);
    std::unordered_map<i64, int> large_;
    std::unordered_map<u64, int> beyond_;
    std::vector<std::vector<Use>> lists_;
};

}  // namespace cmvm
