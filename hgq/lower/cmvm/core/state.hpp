// The matrix as rows of coefficients over signals (inputs, values of other rows, nodes made so far), and the greedy
// step: make the best pattern a node, put it into every row that holds it, count again.
#pragma once
#include <array>
#include <cmath>

#include "counts.hpp"

namespace cmvm {

using Form = std::vector<std::pair<int, i64>>;  // sum of coefficient * input, by input

struct Problem {
    int inputs = 0, outputs = 0;
    std::vector<i64> matrix;  // outputs x inputs
    std::vector<i64> lo, hi;
    std::vector<int> depth;         // of each input, in adder levels
    std::vector<char> free_negate;  // of each output: its negative is as cheap
    int limit = 0;                  // adder levels at which every output is there
};

struct Bounds {
    i64 lo = 0, hi = 0;
};

inline Bounds bounds(const Problem& p, const Form& form) {
    Bounds r;
    for (auto& [input, c] : form) {
        std::size_t k = std::size_t(input);
        r.lo += c * (c > 0 ? p.lo[k] : p.hi[k]);
        r.hi += c * (c > 0 ? p.hi[k] : p.lo[k]);
    }
    return r;
}

inline Form sum(const Form& a, int sa, const Form& b, int sb, int sign) {
    Form out;
    out.reserve(a.size() + b.size());
    std::size_t x = 0, y = 0;
    while (x < a.size() || y < b.size()) {
        int ia = x < a.size() ? a[x].first : 1 << 30, ib = y < b.size() ? b[y].first : 1 << 30;
        i64 c = 0;
        if (ia <= ib) c += a[x++].second * (i64(1) << sa);
        if (ib <= ia) c += sign * b[y++].second * (i64(1) << sb);
        if (c) out.push_back({std::min(ia, ib), c});
    }
    return out;
}

inline Bounds shifted_sum(Bounds a, int sa, Bounds b, int sb, int sign) {
    i64 fa = i64(1) << sa, fb = i64(1) << sb;
    return sign > 0 ? Bounds{a.lo * fa + b.lo * fb, a.hi * fa + b.hi * fb}
                    : Bounds{a.lo * fa - b.hi * fb, a.hi * fa - b.lo * fb};
}

// Bits of the carry chain of (a << sa) + sign * (b << sb), in the cheaper orientation.
inline int carry_bits(const Bounds& out, const Bounds& a, int sa, const Bounds& b, int sb, int sign) {
    int top = width(out.lo, out.hi), apart = std::abs(sa - sb);
    const Bounds& low = sa < sb ? a : b;
    if (apart && sign > 0 && low.lo >= 0 && width(low.lo, low.hi) <= apart) return 0;  // side by side: wires
    return std::max(top - apart, 1);
}

struct Signal {
    Form form;
    Bounds range;
    int bits = 0, depth = 0;
    u64 mask = 0;  // inputs it depends on, modulo 64: disjoint masks are disjoint inputs
    // of a node: (x_a << sa) + sign * (x_b << sb)
    int a = -1, b = -1, sa = 0, sb = 0, sign = 1;
    bool alive = false;
    int carry = 0;  // bits of the carry chain of a node's adder
};

struct Setting {  // how patterns are scored
    float count_power = 1, overlap_power = 1, overlap_add = 0, noise = 0, depth_penalty = 0;
    u64 seed = 0;
    bool newest_first = false;  // among equal scores
};

inline u64 mix(u64 x) {
    x ^= x >> 30, x *= 0xBF58476D1CE4E5B9ull, x ^= x >> 27, x *= 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

struct Row {
    std::vector<int> ids;
    std::vector<Coef> coefs;
    i64 slack = 0;  // 2^limit - sum of digits * 2^depth; the row fits its limit as long as this is not negative
    int limit = 0;
    bool changed = false;
};

class State {
public:
    struct Change {  // for taking steps back
        enum Kind { kSet, kMake, kKill } kind;
        int row, id;
        i64 old;
    };

    State(const Problem& problem, Digits& digits) : problem_(&problem), digits_(&digits) {
        for (int i = 0; i < problem.inputs; ++i) {
            Signal s;
            s.form = {{i, 1}};
            s.depth = problem.depth[std::size_t(i)];
            add(s);
        }
    }

    // A signal that is the value of a row, there at its row's limit.
    int add_row_value(Form form, int depth) {
        Signal s;
        s.form = std::move(form);
        s.depth = depth;
        return add(s);
    }

    void first_node() { first_node_ = int(signals.size()); }

    void add_row(const Form& coefs, int limit) {
        Row row;
        row.limit = limit;
        row.slack = i64(1) << limit;
        rows.push_back(row);
        columns_resize();
        for (auto& [id, c] : coefs) set(int(rows.size()) - 1, id, c);
    }

    bool feasible() const {
        return std::all_of(rows.begin(), rows.end(), [](const Row& r) { return r.slack >= 0; });
    }

    void use(const Setting& s) {
        setting_ = s;
        queue_ = Queue(s.newest_first);
        for (int n = 0; n < 130; ++n) {
            float v = n > 1 ? float(n) : 1.f;
            overlap_score_[std::size_t(n)] = std::pow(float(n) + s.overlap_add, s.overlap_power);
            count_score_[std::size_t(n)] = std::pow(v, s.count_power);
        }
    }

    void queue_all() {
        std::vector<Queued> all;
        for (Slot& s : counts_.slots()) {
            if (!s.key || s.count < 2) continue;
            s.queued = s.count;
            all.push_back({score(Pattern(s.key), s.count, s.key), s.count, s.key});
        }
        work += 10 * all.size();
        queue_.fill(std::move(all));
        queueing_ = true;
    }

    void greedy() {
        while (!queue_.empty()) {
            Queued e = queue_.pop();
            Slot& slot = counts_.at(e.key);
            if (slot.queued != e.count) continue;  // a newer entry stands for it
            if (slot.count < 2) {
                slot.queued = 0;
                continue;
            }
            if (slot.count != e.count) {
                enqueue(slot);
                continue;
            }
            Pattern p(e.key);
            int n = usable(p, slot.count);
            if (n < 2) {
                slot.queued = 0;
                continue;
            }
            float real = score(p, n, e.key);
            if (real < e.score && !queue_.empty() && real < queue_.top().score) {
                queue_.push({real, e.count, e.key});
                continue;
            }
            slot.queued = 0;
            make(p);
        }
    }

    // Expands node `id` wherever it is used, and all nodes made of it.
    void kill(const std::vector<int>& ids) {
        std::vector<char> dead(signals.size(), 0);
        for (int id : ids) dead[std::size_t(id)] = 1;
        std::vector<int> list, rest;
        for (int id : order) {
            const Signal& s = signals[std::size_t(id)];
            if (dead[std::size_t(id)] || dead[std::size_t(s.a)] || dead[std::size_t(s.b)]) {
                dead[std::size_t(id)] = 1;
                list.push_back(id);
            } else {
                rest.push_back(id);
            }
        }
        for (std::size_t k = list.size(); k-- > 0;) expand(list[k]);
        order = rest;
    }

    void begin() {
        log_.clear();
        logging_ = true;
        saved_order_ = order;
        for (int r : changed) rows[std::size_t(r)].changed = false;
        changed.clear();
    }

    void commit() {
        for (const Change& c : log_) {
            if (c.kind == Change::kKill) free_.push_back(c.id);
        }
        logging_ = false;
    }

    void roll_back() {
        logging_ = false, queueing_ = false;
        for (std::size_t k = log_.size(); k-- > 0;) {
            const Change& c = log_[k];
            if (c.kind == Change::kSet) {
                set(c.row, c.id, c.old);
            } else {
                Signal& node = signals[std::size_t(c.id)];
                node.alive = c.kind == Change::kKill;
                carry += node.alive ? node.carry : -node.carry;
                if (c.kind == Change::kMake) free_.push_back(c.id);
            }
        }
        queueing_ = true;
        order = saved_order_;
    }

    i64 coef(int row, int id) const {
        const Row& r = rows[std::size_t(row)];
        for (std::size_t k = 0; k < r.ids.size(); ++k) {
            if (r.ids[k] == id) return r.coefs[k].value;
        }
        return 0;
    }

    const Problem& problem() const { return *problem_; }
    Digits& digits() const { return *digits_; }
    int first() const { return first_node_; }
    const std::vector<int>& rows_of(int id) const { return columns_[std::size_t(id)]; }

    std::vector<Row> rows;
    std::vector<Signal> signals;
    std::vector<int> order;    // nodes alive, oldest first
    std::vector<int> changed;  // rows changed since begin()
    i64 carry = 0;             // bits of the carry chains of all nodes alive
    u64 work = 0;              // counts updated so far: a measure of time that is the same on every machine

private:
    int add(Signal s) {
        s.range = bounds(*problem_, s.form);
        s.bits = width(s.range.lo, s.range.hi);
        for (auto& term : s.form) s.mask |= u64(1) << (term.first & 63);
        s.alive = true;
        int id;
        if (!free_.empty()) {
            id = free_.back();
            free_.pop_back();
            signals[std::size_t(id)] = std::move(s);
        } else {
            id = int(signals.size());
            signals.push_back(std::move(s));
        }
        columns_resize();
        return id;
    }

    void columns_resize() { columns_.resize(signals.size()); }

    float score(const Pattern& p, int n, u64 key) const {
        int wi = signals[std::size_t(p.i)].bits, wj = signals[std::size_t(p.j)].bits;
        int overlap = std::min(wi, wj + p.shift) - std::max(0, p.shift);
        overlap = std::clamp(overlap, 0, 127);
        float s = count_score_[std::size_t(std::min(n - 1, 127))] * overlap_score_[std::size_t(overlap)];
        if (setting_.depth_penalty > 0) {
            int d = std::abs(signals[std::size_t(p.i)].depth - signals[std::size_t(p.j)].depth);
            s /= 1 + setting_.depth_penalty * float(d);
        }
        if (setting_.noise > 0) {
            s *= 1 + setting_.noise * float(mix(key ^ setting_.seed) >> 40) * (1.f / 16777216.f);
        }
        return s;
    }

    void enqueue(Slot& slot) {
        work += 10;
        slot.queued = slot.count;
        queue_.push({score(Pattern(slot.key), slot.count, slot.key), slot.count, slot.key});
    }

    void bump(u64 key, int by) {  // takes effect at `flush`, by when the memory has been fetched
        counts_.prefetch(key);
        pending_.push_back({key, by});
    }

    void flush() {
        for (auto& [key, by] : pending_) {
            Slot& slot = counts_.at(key);
            slot.count += by;
            if (by > 0 && queueing_ && slot.count >= 2 && slot.count > slot.queued) enqueue(slot);
        }
        pending_.clear();
    }

    void count_pair(int u, const Coef& cu, int v, const Coef& cv, int by) {
        bool swap = u > v;
        const Coef &ci = swap ? cv : cu, &cj = swap ? cu : cv;
        int i = swap ? v : u, j = swap ? u : v, move = cj.shift - ci.shift, sign = ci.sign * cj.sign;
        const std::vector<Use>& list = digits_->uses(ci.odd, cj.odd);
        for (const Use& use : list) bump(pattern_key(i, j, use.shift + move, use.sign * sign), by * use.count);
        work += list.size();
    }

    void count_own(int id, const Coef& c, int by) {
        for (const Use& use : digits_->own_uses(c.odd)) bump(pattern_key(id, id, use.shift, use.sign), by * use.count);
    }

    void set(int r, int id, i64 value) {
        Row& row = rows[std::size_t(r)];
        std::size_t at = 0, n = row.ids.size();
        while (at < n && row.ids[at] != id) ++at;
        Coef old = at < n ? row.coefs[at] : Coef(), now = digits_->coef(value);
        if (old.value == value) return;
        if (logging_) {
            log_.push_back({Change::kSet, r, id, old.value});
            if (!row.changed) row.changed = true, changed.push_back(r);
        }
        if (old.value) {
            for (std::size_t k = 0; k < n; ++k) {
                if (k != at) count_pair(id, old, row.ids[k], row.coefs[k], -1);
            }
            count_own(id, old, -1);
        }
        if (now.value) {
            for (std::size_t k = 0; k < n; ++k) {
                if (k != at) count_pair(id, now, row.ids[k], row.coefs[k], 1);
            }
            count_own(id, now, 1);
        }
        flush();
        row.slack += i64(old.digits - now.digits) * (i64(1) << signals[std::size_t(id)].depth);
        std::vector<int>& column = columns_[std::size_t(id)];
        if (!now.value) {
            row.ids[at] = row.ids.back(), row.coefs[at] = row.coefs.back();
            row.ids.pop_back(), row.coefs.pop_back();
            column.erase(std::lower_bound(column.begin(), column.end(), r));
        } else if (at < n) {
            row.coefs[at] = now;
        } else {
            row.ids.push_back(id), row.coefs.push_back(now);
            column.insert(std::lower_bound(column.begin(), column.end(), r), r);
        }
    }

    i64 growth(const Pattern& p) const {  // what one use costs of a row's slack
        int di = signals[std::size_t(p.i)].depth, dj = signals[std::size_t(p.j)].depth;
        return (i64(2) << std::max(di, dj)) - (i64(1) << di) - (i64(1) << dj);
    }

    // How many of the counted uses the depth limits of their rows allow.
    int usable(const Pattern& p, int counted) {
        i64 dk = growth(p);
        if (!dk) return counted;
        int n = 0;
        const std::vector<int>&x = columns_[std::size_t(p.i)], &y = columns_[std::size_t(p.j)];
        std::size_t a = 0, b = 0;
        while (a < x.size() && b < y.size()) {
            if (x[a] < y[b]) {
                ++a;
            } else if (x[a] > y[b]) {
                ++b;
            } else {
                i64 room = rows[std::size_t(x[a])].slack / dk;
                if (room > 0) {
                    i64 ci = coef(x[a], p.i), taken = 0;
                    int limit = int(std::min<i64>(room, 100));
                    if (p.i == p.j) {
                        n += take_own(ci, p.shift, p.sign, limit, taken);
                    } else {
                        i64 cj = coef(x[a], p.j);
                        n += take(ci, cj, p.shift, p.sign, limit, taken);
                    }
                }
                ++a, ++b;
            }
        }
        return n;
    }

    void make(const Pattern& p) {
        Signal s;
        s.a = p.i, s.b = p.j, s.sign = p.sign;
        s.sa = std::max(0, -p.shift), s.sb = std::max(0, p.shift);
        const Signal &a = signals[std::size_t(p.i)], &b = signals[std::size_t(p.j)];
        s.form = sum(a.form, s.sa, b.form, s.sb, p.sign);
        s.depth = std::max(a.depth, b.depth) + 1;
        i64 dk = growth(p);
        int up = s.sa, id = add(std::move(s));
        Signal& made = signals[std::size_t(id)];
        const Bounds &first = signals[std::size_t(p.i)].range, &second = signals[std::size_t(p.j)].range;
        made.carry = carry_bits(made.range, first, made.sa, second, made.sb, p.sign);
        carry += made.carry;
        order.push_back(id);
        if (logging_) log_.push_back({Change::kMake, 0, id, 0});
        std::vector<int> both;
        const std::vector<int>&x = columns_[std::size_t(p.i)], &y = columns_[std::size_t(p.j)];
        std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(both));
        for (int r : both) {
            int room = dk ? int(std::min<i64>(rows[std::size_t(r)].slack / dk, 100)) : 100;
            if (!room) continue;
            i64 ci = coef(r, p.i), taken = 0;
            if (p.i == p.j) {
                if (take_own(ci, p.shift, p.sign, room, taken)) {
                    set(r, p.i, ci);
                    set(r, id, taken >> up);
                }
            } else {
                i64 cj = coef(r, p.j);
                if (take(ci, cj, p.shift, p.sign, room, taken)) {
                    set(r, p.i, ci);
                    set(r, p.j, cj);
                    set(r, id, taken >> up);
                }
            }
        }
    }

    void expand(int id) {
        const Signal s = signals[std::size_t(id)];
        std::vector<int> where = columns_[std::size_t(id)];
        for (int r : where) {
            i64 c = coef(r, id);
            set(r, id, 0);
            set(r, s.a, coef(r, s.a) + c * (i64(1) << s.sa));
            set(r, s.b, coef(r, s.b) + s.sign * c * (i64(1) << s.sb));
        }
        signals[std::size_t(id)].alive = false;
        carry -= s.carry;
        if (logging_) log_.push_back({Change::kKill, 0, id, 0});
    }

    const Problem* problem_;
    Digits* digits_;
    Counts counts_;
    Queue queue_;
    Setting setting_;
    std::array<float, 130> overlap_score_{}, count_score_{};
    std::vector<std::vector<int>> columns_;  // rows in which a signal has a coefficient, ascending
    std::vector<std::pair<u64, int>> pending_;
    std::vector<int> free_, saved_order_;
    std::vector<Change> log_;
    int first_node_ = 0;
    bool logging_ = false, queueing_ = false;
};

}  // namespace cmvm
