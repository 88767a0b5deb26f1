// What is left of a row, as a tree of two-operand adds within its depth limit.
#pragma once
#include "state.hpp"

namespace cmvm {

struct TreeAdd {  // (a << sa) + sign * (b << sb); operands >= 0 are signals, below that local: ~k is the k-th add
    int a, b, sa, sb, sign;
    Bounds range;
};

struct Tree {
    std::vector<TreeAdd> adds;
    int root = 0, shift = 0, sign = 1;
    bool empty = true;
    i64 cost = 0;
};

struct TreeSetting {  // price of a merge: carry * bits of its carry chain + result * width of what it makes
    float carry = 1, result = 1, noise = 0;
    u64 seed = 0;
};

class Trees {
public:
    explicit Trees(const State& state) : state_(state) {}

    // Whether merges are priced by exact ranges, which takes twice as long: an input may be in both operands.
    bool exact = true;

    // The digits of row `r` and what merging each two of them costs; then `grow` as often as wanted.
    void prepare(int r) {
        const Row& row = state_.rows[std::size_t(r)];
        terms_.clear();
        for (std::size_t k = 0; k < row.ids.size(); ++k) {
            const Signal& s = state_.signals[std::size_t(row.ids[k])];
            i64 c = row.coefs[k].value;
            int sign = c < 0 ? -1 : 1;
            u64 u = c < 0 ? u64(-c) : u64(c);
            for (int shift = 0; u; u >>= 1, ++shift) {
                if (!(u & 1)) continue;
                int digit = (u & 3) == 3 ? -1 : 1;
                if (digit < 0) u += 2;
                terms_.push_back({row.ids[k], shift, sign * digit, s.depth, s.range, s.mask, &s.form});
            }
        }
        count_ = terms_.size();
        row_slack_ = row.slack;
        pitch_ = 2 * count_;
        terms_.resize(pitch_);
        price_.resize(pitch_ * pitch_);
        if (own_.size() < pitch_) own_.resize(pitch_);
        exact_ = exact && count_ <= 64;
        for (std::size_t k = 1; k < count_; ++k) {
            for (std::size_t j = 0; j < k; ++j) set_price(j, k);
        }
    }

    Tree grow(const TreeSetting& how) {
        Tree tree;
        if (!count_) return tree;
        how_ = how, slack_ = row_slack_, tree.empty = false;
        live_.resize(count_);
        best_.assign(pitch_, Best());
        for (std::size_t k = 0; k < count_; ++k) live_[k] = int(k);
        for (int k : live_) find_best(std::size_t(k));
        tree.adds.reserve(count_ - 1);
        for (std::size_t next = count_; live_.size() > 1; ++next) merge(tree, next);
        const Term& last = terms_[std::size_t(live_[0])];
        tree.root = last.ref, tree.shift = last.shift, tree.sign = last.sign;
        return tree;
    }

private:
    struct Term {
        int ref, shift, sign, depth;
        Bounds range;
        u64 mask;
        const Form* form;
    };
    struct Price {
        std::int16_t carry, bits;
    };
    struct Best {  // the partner among the live terms
        int partner = -1;
        float cost = 0;
    };

    i64 growth(std::size_t k, std::size_t j) const {
        int dk = terms_[k].depth, dj = terms_[j].depth;
        return (i64(2) << std::max(dk, dj)) - (i64(1) << dk) - (i64(1) << dj);
    }

    void set_price(std::size_t j, std::size_t k) {  // j < k
        const Term &x = terms_[j], &y = terms_[k];
        int base = std::min(x.shift, y.shift), sign = x.sign * y.sign;
        Bounds out = shifted_sum(x.range, x.shift - base, y.range, y.shift - base, sign);
        if (exact_ && (x.mask & y.mask)) out = exact_range(x, y, base, sign);
        int carry = carry_bits(out, x.range, x.shift - base, y.range, y.shift - base, sign);
        price_[j * pitch_ + k] = {std::int16_t(carry), std::int16_t(width(out.lo, out.hi))};
    }

    Bounds exact_range(const Term& x, const Term& y, int base, int sign) const {
        i64 fx = i64(1) << (x.shift - base), fy = (i64(1) << (y.shift - base)) * sign;
        const Problem& p = state_.problem();
        const Form &u = *x.form, &v = *y.form;
        Bounds r;
        std::size_t a = 0, b = 0;
        while (a < u.size() || b < v.size()) {
            int ia = a < u.size() ? u[a].first : 1 << 30, ib = b < v.size() ? v[b].first : 1 << 30;
            i64 c = 0;
            if (ia <= ib) c += fx * u[a++].second;
            if (ib <= ia) c += fy * v[b++].second;
            std::size_t k = std::size_t(std::min(ia, ib));
            r.lo += c * (c > 0 ? p.lo[k] : p.hi[k]);
            r.hi += c * (c > 0 ? p.hi[k] : p.lo[k]);
        }
        return r;
    }

    float cost(std::size_t k, std::size_t j) const {
        std::size_t low = std::min(k, j), high = std::max(k, j);
        Price p = price_[low * pitch_ + high];
        float c = how_.carry * float(p.carry) + how_.result * float(p.bits);
        if (how_.noise > 0) {
            c *= 1 + how_.noise * float(mix(how_.seed ^ (u64(low) << 20) ^ u64(high)) >> 40) * (1.f / 16777216.f);
        }
        return c;
    }

    void find_best(std::size_t k) {
        Best b;
        for (int j : live_) {
            if (std::size_t(j) == k || growth(k, std::size_t(j)) > slack_) continue;
            float c = cost(k, std::size_t(j));
            if (b.partner < 0 || c < b.cost) b = {j, c};
        }
        best_[k] = b;
    }

    void merge(Tree& tree, std::size_t next) {
        int pick = -1;
        for (;;) {
            pick = -1;
            for (int k : live_) {
                const Best& b = best_[std::size_t(k)];
                if (b.partner >= 0 && (pick < 0 || b.cost < best_[std::size_t(pick)].cost)) pick = k;
            }
            if (growth(std::size_t(pick), std::size_t(best_[std::size_t(pick)].partner)) <= slack_) break;
            find_best(std::size_t(pick));  // the slack has shrunk since
        }
        int k = std::min(pick, best_[std::size_t(pick)].partner), j = std::max(pick, best_[std::size_t(pick)].partner);
        slack_ -= growth(std::size_t(k), std::size_t(j));
        const Term &x = terms_[std::size_t(k)], &y = terms_[std::size_t(j)];
        int base = std::min(x.shift, y.shift), sign = x.sign * y.sign;
        Form& form = own_[next];
        Bounds range = shifted_sum(x.range, x.shift - base, y.range, y.shift - base, sign);
        if (exact) {
            form = sum(*x.form, x.shift - base, *y.form, y.shift - base, sign);
            range = bounds(state_.problem(), form);
        }
        Term out{~int(tree.adds.size()), base, x.sign, std::max(x.depth, y.depth) + 1, range, x.mask | y.mask, &form};
        TreeAdd add{x.ref, y.ref, x.shift - base, y.shift - base, sign, out.range};
        tree.cost += carry_bits(out.range, x.range, add.sa, y.range, add.sb, sign);
        tree.adds.push_back(add);
        terms_[next] = out;
        live_.erase(std::remove_if(live_.begin(), live_.end(), [&](int t) { return t == k || t == j; }), live_.end());
        for (int t : live_) set_price(std::size_t(t), next);
        live_.push_back(int(next));
        find_best(next);
        for (int t : live_) {
            Best& b = best_[std::size_t(t)];
            if (t == int(next)) continue;
            if (b.partner == k || b.partner == j || b.partner < 0) {
                find_best(std::size_t(t));
            } else if (growth(std::size_t(t), next) <= slack_) {
                float c = cost(std::size_t(t), next);
                if (c < b.cost) b = {int(next), c};
            }
        }
    }

    const State& state_;
    std::vector<Term> terms_;  // the row's digits, then what merges make
    std::vector<Form> own_;
    std::vector<Price> price_;
    std::vector<Best> best_;
    std::vector<int> live_;
    TreeSetting how_;
    std::size_t count_ = 0, pitch_ = 0;
    i64 slack_ = 0, row_slack_ = 0;
    bool exact_ = false;
};

}  // namespace cmvm
