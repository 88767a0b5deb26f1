// The adder graph of a state: nodes and row trees joined, equal adds made once, signs chosen, cost counted.
#pragma once
#include "tree.hpp"

namespace cmvm {

enum class Objective { kLut = 0, kLut3 = 1, kAdders = 2 };

struct Add {  // (a << sa) + sign * (b << sb); a reference counts inputs first, then adds
    int a, b, sa, sb, sign;
    Bounds range;
};

struct Output {
    int ref = -1;  // -1: constant 0
    int shift = 0, sign = 1;
};

struct Result {
    std::vector<Add> adds;           // here `sign` is the second operand's own sign
    std::vector<Output> outputs;
    std::vector<signed char> first;  // the sign of each add's first operand
};

inline Bounds negated(const Bounds& b, int sign) { return sign > 0 ? b : Bounds{-b.hi, -b.lo}; }

constexpr int kImpossible = 1 << 20;

// LUTs of pa * (a << sa) + pb * (b << sb): from the first bit that needs logic to the top of the result.
inline int lut_cost(const Bounds& out, const Bounds& a, int sa, int pa, const Bounds& b, int sb, int pb) {
    if (pa < 0 && pb < 0) return kImpossible;
    int top = width(out.lo, out.hi), first = 0;
    if (sa != sb) {
        const Bounds& low = sa < sb ? a : b;
        int low_sign = sa < sb ? pa : pb, high_sign = sa < sb ? pb : pa, apart = std::abs(sa - sb);
        if (low_sign > 0) {
            first = apart;
            if (high_sign > 0 && low.lo >= 0 && width(low.lo, low.hi) <= apart) return 0;
        }
    }
    return std::max(top - first, 1);
}

class Graph {
public:
    Graph(const Problem& problem) : problem_(problem) {}

    void assemble(const State& state, const std::vector<Tree>& trees, const std::vector<int>& output_row,
                  const std::vector<std::pair<int, int>>& output_form) {
        adds.clear();
        state_ = &state, trees_ = &trees;
        ++stamp_;
        known_.resize(state.signals.size());
        if (table_.empty()) table_.resize(1 << 12);
        outputs.assign(std::size_t(problem_.outputs), Output());
        rooted_.assign(trees.size(), Known());
        for (std::size_t o = 0; o < outputs.size(); ++o) {
            int r = output_row[o];
            if (r < 0) continue;
            Known k = root(r);
            outputs[o] = {k.ref, k.shift + output_form[o].first, k.sign * output_form[o].second};
        }
    }

    i64 choose_signs_and_cost(Objective objective) {
        choose_signs();
        return cost(objective);
    }

    std::vector<Add> adds;
    std::vector<Output> outputs;
    std::vector<signed char> flip;  // sign of what each add computes, against its form in `adds`

    int operand_sign(std::size_t n, bool second) const {
        const Add& x = adds[n];
        int ref = second ? x.b : x.a, own = second ? x.sign : 1;
        return flip[n] * own * (ref < problem_.inputs ? 1 : flip[std::size_t(ref - problem_.inputs)]);
    }

    Result result() const {  // with every sign put in its place
        Result r;
        r.adds = adds, r.outputs = outputs;
        for (std::size_t k = 0; k < adds.size(); ++k) {
            r.first.push_back(static_cast<signed char>(operand_sign(k, false)));
            r.adds[k].sign = operand_sign(k, true);
        }
        for (Output& o : r.outputs) {
            if (o.ref >= problem_.inputs) o.sign *= flip[std::size_t(o.ref - problem_.inputs)];
        }
        return r;
    }

private:
    struct Known {
        int ref = -1, shift = 0, sign = 1;
        u64 stamp = 0;
    };

    Known resolve(int id) {
        if (id < problem_.inputs) return {id, 0, 1, stamp_};
        Known& k = known_[std::size_t(id)];
        if (k.stamp == stamp_) return k;
        Known made;
        if (id < state_->first()) {
            made = root(id - problem_.inputs);  // the value of a row
        } else {
            const Signal& s = state_->signals[std::size_t(id)];
            Known a = resolve(s.a), b = resolve(s.b);  // in this order on every compiler
            made = join(a, s.sa, b, s.sb, s.sign, s.range);
        }
        made.stamp = stamp_;
        return known_[std::size_t(id)] = made;
    }

    Known root(int r) {
        Known& k = rooted_[std::size_t(r)];
        if (k.stamp == stamp_) return k;
        const Tree& tree = (*trees_)[std::size_t(r)];
        std::vector<Known> local;
        local.reserve(tree.adds.size());
        auto get = [&](int ref) { return ref < 0 ? local[std::size_t(~ref)] : resolve(ref); };
        for (const TreeAdd& t : tree.adds) {
            Known a = get(t.a), b = get(t.b);
            local.push_back(join(a, t.sa, b, t.sb, t.sign, t.range));
        }
        Known made = tree.empty ? Known() : get(tree.root);
        made.shift += tree.shift, made.sign *= tree.sign, made.stamp = stamp_;
        return rooted_[std::size_t(r)] = made;
    }

    Known join(Known a, int sa, Known b, int sb, int sign, Bounds range) {
        sa += a.shift, sb += b.shift;
        int first = a.sign, second = sign * b.sign;
        if (a.ref > b.ref || (a.ref == b.ref && sa > sb)) std::swap(a, b), std::swap(sa, sb), std::swap(first, second);
        int base = std::min(sa, sb);
        Bounds own = negated(range, first);
        own.lo >>= base, own.hi >>= base;
        Add add{a.ref, b.ref, sa - base, sb - base, first * second, own};
        return {intern(add), base, first, stamp_};
    }

    int intern(const Add& add) {
        if (2 * (adds.size() + 1) > table_.size()) {
            std::vector<Cell> old(2 * table_.size());
            old.swap(table_);
            for (std::size_t n = 0; n < adds.size(); ++n) *cell(adds[n]) = {stamp_, int(n)};
        }
        Cell* c = cell(add);
        if (c->stamp != stamp_) {
            *c = {stamp_, int(adds.size())};
            adds.push_back(add);
        }
        return problem_.inputs + c->add;
    }

    struct Cell {
        u64 stamp = 0;
        int add = 0;
    };

    Cell* cell(const Add& x) {
        u64 h = mix((u64(x.a) << 36) ^ (u64(x.b) << 14) ^ u64(x.sa << 8) ^ u64(x.sb << 1) ^ u64(x.sign < 0));
        std::size_t mask = table_.size() - 1, k = std::size_t(h) & mask;
        while (table_[k].stamp == stamp_) {
            const Add& y = adds[std::size_t(table_[k].add)];
            if (x.a == y.a && x.b == y.b && x.sa == y.sa && x.sb == y.sb && x.sign == y.sign) break;
            k = (k + 1) & mask;
        }
        return &table_[k];
    }

    Bounds range_of(int ref) const {
        if (ref >= problem_.inputs) return adds[std::size_t(ref - problem_.inputs)].range;
        return {problem_.lo[std::size_t(ref)], problem_.hi[std::size_t(ref)]};
    }

    // Each add may compute its negative. Flips single adds, and adds with an operand, while that saves LUTs.
    void choose_signs() {
        std::size_t n = adds.size();
        int inputs = problem_.inputs;
        flip.assign(n, 1);
        table8_.resize(8 * n);
        start_.assign(n + 1, 0);
        for (std::size_t k = 0; k < n; ++k) {
            const Add& x = adds[k];
            Bounds a = range_of(x.a), b = range_of(x.b);
            for (int m = 0; m < 8; ++m) {
                int own = m & 1 ? -1 : 1, fa = m & 2 ? -1 : 1, fb = m & 4 ? -1 : 1;
                table8_[8 * k + std::size_t(m)] =
                    lut_cost(negated(x.range, own), negated(a, fa), x.sa, own * fa, negated(b, fb), x.sb, own * fb * x.sign);
            }
            if (x.a >= inputs) ++start_[std::size_t(x.a - inputs) + 1];
            if (x.b >= inputs && x.b != x.a) ++start_[std::size_t(x.b - inputs) + 1];
        }
        for (std::size_t k = 0; k < n; ++k) start_[k + 1] += start_[k];
        users_.resize(std::size_t(start_[n]));
        fill_ = start_;
        for (std::size_t k = 0; k < n; ++k) {
            const Add& x = adds[k];
            if (x.a >= inputs) users_[std::size_t(fill_[std::size_t(x.a - inputs)]++)] = int(k);
            if (x.b >= inputs && x.b != x.a) users_[std::size_t(fill_[std::size_t(x.b - inputs)]++)] = int(k);
        }
        out_pos_.assign(n, 0), out_neg_.assign(n, 0);  // price at the outputs if the add computes +, -
        for (std::size_t o = 0; o < outputs.size(); ++o) {
            const Output& out = outputs[o];
            if (out.ref < inputs || problem_.free_negate[o]) continue;
            std::size_t k = std::size_t(out.ref - inputs);
            Bounds r = adds[k].range;
            if (out.sign < 0) out_pos_[k] += width(-r.hi, -r.lo) + 1;
            if (out.sign > 0) out_neg_[k] += width(r.lo, r.hi) + 1;
        }
        for (int pass = 0; pass < 6; ++pass) {
            bool better = false;
            for (std::size_t k = n; k-- > 0;) {
                if (gain(k, -1) > 0) {
                    flip[k] = -flip[k], better = true;
                    continue;
                }
                for (int second = 0; second < 2; ++second) {
                    int ref = second ? adds[k].b : adds[k].a;
                    if (ref < inputs) continue;
                    int other = ref - inputs;
                    if (gain(k, other) > 0) {
                        flip[k] = -flip[k], flip[std::size_t(other)] = -flip[std::size_t(other)], better = true;
                        break;
                    }
                }
            }
            if (!better) break;
        }
    }

    int local(std::size_t k) const {
        const Add& x = adds[k];
        int m = flip[k] < 0;
        if (x.a >= problem_.inputs && flip[std::size_t(x.a - problem_.inputs)] < 0) m |= 2;
        if (x.b >= problem_.inputs && flip[std::size_t(x.b - problem_.inputs)] < 0) m |= 4;
        return table8_[8 * k + std::size_t(m)];
    }

    int around(std::size_t k, int except) const {  // cost of add k and of its users
        int sum = local(k) + (flip[k] > 0 ? out_pos_[k] : out_neg_[k]);
        for (int u = start_[k]; u < start_[k + 1]; ++u) {
            int user = users_[std::size_t(u)];
            if (user != except) sum += local(std::size_t(user));
        }
        return sum;
    }

    int both(std::size_t k, int other) const {
        int sum = around(k, -1);
        if (other < 0) return sum;
        sum += around(std::size_t(other), int(k));
        for (int u = start_[std::size_t(other)]; u < start_[std::size_t(other) + 1]; ++u) {  // counted twice
            int user = users_[std::size_t(u)];
            if (user == int(k)) continue;
            const Add& x = adds[std::size_t(user)];
            if (x.a == int(k) + problem_.inputs || x.b == int(k) + problem_.inputs) sum -= local(std::size_t(user));
        }
        return sum;
    }

    int gain(std::size_t k, int other) {
        int before = both(k, other);
        flip[k] = -flip[k];
        if (other >= 0) flip[std::size_t(other)] = -flip[std::size_t(other)];
        int after = both(k, other);
        flip[k] = -flip[k];
        if (other >= 0) flip[std::size_t(other)] = -flip[std::size_t(other)];
        return before - after;
    }

    i64 cost(Objective objective) {
        i64 negations = 0, luts = 0, count = 0;
        for (std::size_t k = 0; k < adds.size(); ++k) {
            int c = local(k);
            luts += c, count += c > 0;
            negations += flip[k] > 0 ? out_pos_[k] : out_neg_[k];
        }
        for (std::size_t o = 0; o < outputs.size(); ++o) {
            const Output& out = outputs[o];
            if (out.ref < 0 || out.ref >= problem_.inputs || out.sign > 0 || problem_.free_negate[o]) continue;
            Bounds r = range_of(out.ref);
            negations += width(-r.hi, -r.lo) + 1;
        }
        if (objective == Objective::kAdders) return (count << 20) + luts + negations;
        if (objective == Objective::kLut3) return ternary() + negations;
        return luts + negations;
    }

    // LUTs when an add that only one other add reads may become part of it: three operands at one LUT a bit.
    i64 ternary() {
        std::size_t n = adds.size();
        int inputs = problem_.inputs;
        readers_.assign(n, 0), best_.assign(n, 0);
        for (const Add& x : adds) {
            if (x.a >= inputs) ++readers_[std::size_t(x.a - inputs)];
            if (x.b >= inputs) ++readers_[std::size_t(x.b - inputs)];
        }
        for (const Output& o : outputs) {
            if (o.ref >= inputs) readers_[std::size_t(o.ref - inputs)] += 2;
        }
        auto below = [&](int ref) {
            return ref >= inputs && readers_[std::size_t(ref - inputs)] == 1 ? best_[std::size_t(ref - inputs)] : 0;
        };
        i64 total = 0;
        for (std::size_t k = 0; k < n; ++k) {
            const Add& x = adds[k];
            i64 least = local(k) + below(x.a) + below(x.b);
            for (int second = 0; second < 2; ++second) {
                int ref = second ? x.b : x.a, other = second ? x.a : x.b, up = second ? x.sb : x.sa;
                if (ref < inputs || readers_[std::size_t(ref - inputs)] != 1) continue;
                std::size_t m = std::size_t(ref - inputs);
                const Add& y = adds[m];
                int sign = operand_sign(k, second);
                int shift[3] = {y.sa + up, y.sb + up, second ? x.sa : x.sb};
                int signs[3] = {sign * operand_sign(m, false), sign * operand_sign(m, true), operand_sign(k, !second)};
                int low = 0;
                for (int q = 1; q < 3; ++q) {
                    if (shift[q] < shift[low]) low = q;
                }
                int next = std::min(shift[(low + 1) % 3], shift[(low + 2) % 3]);
                Bounds r = negated(x.range, flip[k]);
                i64 fused = std::max(width(r.lo, r.hi) - (signs[low] > 0 ? next : shift[low]), 1);
                least = std::min(least, fused + below(y.a) + below(y.b) + below(other));
            }
            best_[k] = least;
            if (readers_[k] != 1) total += least;
        }
        return total;
    }

    const Problem& problem_;
    const State* state_ = nullptr;
    const std::vector<Tree>* trees_ = nullptr;
    u64 stamp_ = 0;
    std::vector<Known> known_, rooted_;
    std::vector<Cell> table_;
    std::vector<int> table8_, start_, fill_, users_, out_pos_, out_neg_, readers_;
    std::vector<i64> best_;
};

}  // namespace cmvm
