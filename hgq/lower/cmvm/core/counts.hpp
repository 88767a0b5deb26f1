// How often each pattern occurs, and the patterns in order of score.
#pragma once
#include <algorithm>
#include <vector>

#include "digits.hpp"

namespace cmvm {

// The pattern x_i + sign * (x_j << shift) as one number; i <= j. Never 0.
inline u64 pattern_key(int i, int j, int shift, int sign) {
    return (u64(i) << 40) | (u64(j) << 16) | u64((shift + 128) << 1) | u64(sign < 0);
}

struct Pattern {
    int i, j, shift, sign;
    explicit Pattern(u64 key)
        : i(int(key >> 40)), j(int(key >> 16) & 0xffffff), shift(int((key >> 1) & 0x7fff) - 128), sign(key & 1 ? -1 : 1) {}
};

struct Slot {
    u64 key;
    int count;   // occurrences in all rows
    int queued;  // the count with which the pattern stands in the queue; 0: it does not
};

class Counts {  // open addressing; slots with count 0 go when the table is rebuilt
public:
    Counts() : slots_(1 << 12, Slot{0, 0, 0}), bits_(12) {}

    Slot& at(u64 key) {
        std::size_t mask = slots_.size() - 1, k = std::size_t((key * 0x9E3779B97F4A7C15ull) >> (64 - bits_));
        while (slots_[k].key != key) {
            if (!slots_[k].key) {
                if (2 * (used_ + 1) > slots_.size()) {
                    rebuild();
                    return at(key);
                }
                ++used_;
                slots_[k].key = key;
                break;
            }
            k = (k + 1) & mask;
        }
        return slots_[k];
    }

    void prefetch(u64 key) const { __builtin_prefetch(&slots_[std::size_t((key * 0x9E3779B97F4A7C15ull) >> (64 - bits_))]); }

    std::vector<Slot>& slots() { return slots_; }

private:
    void rebuild() {
        std::size_t live = 0;
        for (const Slot& s : slots_) live += s.key && (s.count || s.queued);
        int bits = 12;
        while ((std::size_t(1) << bits) < 4 * live) ++bits;
        std::vector<Slot> old(std::size_t(1) << bits, Slot{0, 0, 0});
        old.swap(slots_);
        bits_ = bits, used_ = 0;
        std::size_t mask = slots_.size() - 1;
        for (const Slot& s : old) {
            if (!s.key || !(s.count || s.queued)) continue;
            std::size_t k = std::size_t((s.key * 0x9E3779B97F4A7C15ull) >> (64 - bits_));
            while (slots_[k].key) k = (k + 1) & mask;
            slots_[k] = s;
            ++used_;
        }
    }

    std::vector<Slot> slots_;
    int bits_;
    std::size_t used_ = 0;
};

struct Queued {
    float score;
    int count;
    u64 key;
};

class Queue {  // highest score first; equal scores by key, so that the order never depends on memory
public:
    explicit Queue(bool newest_first = false) : newest_first_(newest_first) {}

    void push(Queued q) {
        heap_.push_back(q);
        std::push_heap(heap_.begin(), heap_.end(), order());
    }
    void fill(std::vector<Queued> all) {
        heap_ = std::move(all);
        std::make_heap(heap_.begin(), heap_.end(), order());
    }
    Queued pop() {
        std::pop_heap(heap_.begin(), heap_.end(), order());
        Queued q = heap_.back();
        heap_.pop_back();
        return q;
    }
    bool empty() const { return heap_.empty(); }
    const Queued& top() const { return heap_.front(); }

private:
    struct Order {
        bool newest_first;
        bool operator()(const Queued& x, const Queued& y) const {
            return x.score < y.score || (x.score == y.score && (x.key < y.key) == newest_first && x.key != y.key);
        }
    };
    Order order() const { return {newest_first_}; }

    bool newest_first_;
    std::vector<Queued> heap_;
};

}  // namespace cmvm
