// Several greedy starts, then search: expand some nodes, build them anew, keep what is better or not much worse.
#pragma once
#include <memory>

#include "decompose.hpp"
#include "graph.hpp"

namespace cmvm {

struct Options {
    Objective objective = Objective::kLut;
    int starts = 1;          // scoring settings tried
    int decompositions = 0;  // spanning trees tried
    int tree_tries = 1;      // tree settings tried for each row
    int last_tries = 1;      // the same at the end, where every row's tree is built once more
    int search = 0;          // whether to search after the starts
    // No new start or step once the work of this many tenths of the first start is done, or `ceiling` elementary steps
    // (of 15 to 50 ns); but not before `work` steps.
    int passes = 10;
    u64 ceiling = ~u64(0), work = 0;
    u64 seed = 1;
};

class Random {
public:
    explicit Random(u64 seed) : x_(seed) {}
    u64 next() { return mix(x_ += 0x9E3779B97F4A7C15ull); }
    int below(int n) { return int(next() % u64(n)); }
    float real() { return float(next() >> 40) * (1.f / 16777216.f); }

private:
    u64 x_;
};

inline const std::vector<Setting>& settings() {
    static const std::vector<Setting> list = {
        {1, 1, 0, 0, 0, 0, false},     {1, 1, 0, 0, 0, 0, true}, {1, 1, 0, 0, 0.1f, 0, true}, {1, 0.5f, 0, 0, 0, 0, false},
        {1, 1, 2, 0, 0, 0, false},     {1, 1, 0, 0.1f, 0, 7, false}, {0.7f, 1, 0, 0, 0, 0, true}, {1, 1, 8, 0, 0, 0, true},
    };
    return list;
}

inline TreeSetting tree_setting(int k, u64 seed) {
    static const float result[] = {1, 0.5f, 2, 1}, noise[] = {0, 0, 0, 0.15f};
    TreeSetting t;
    t.result = result[k & 3], t.noise = k < 4 ? noise[k] : 0.04f, t.seed = seed + u64(k);
    return t;
}

class Search {
public:
    Search(const Problem& problem, const Options& options)
        : problem_(problem), options_(options), rows_(distinct_rows(problem)), random_(options.seed), graph_(problem) {}

    // The best graph found; false if the depth limit cannot be kept.
    bool run(Result& result) {
        starts();
        if (!start_) return false;
        if (options_.search) improve();
        result = std::move(best_);
        return true;
    }

private:
    static constexpr float kHot = 6;
    static constexpr int kSmall = 150;  // nodes

    struct Plan {  // a start: the rows as they are (no links), or sums of differences
        std::vector<Link> link;
        i64 digits;
        int tighter;
    };

    // The plan with the fewest digits first; then other scorings of whichever was best.
    void starts() {
        std::vector<Plan> plans;
        i64 plain = 0;
        for (auto& form : rows_.forms) plain += digit_sum(form);
        for (int k = 0, levels[] = {4, 5, 3, 1 << 20, 2}; k < std::min(options_.decompositions, 5); ++k) {
            Plan plan{spanning_tree(rows_, levels[k]), 0, 1};
            for (const Link& l : plan.link) plan.digits += l.digits + (l.parent < 0 ? 0 : l.level);
            bool known = std::any_of(plans.begin(), plans.end(), [&](const Plan& p) { return p.digits == plan.digits; });
            if (plan.digits * 100 < plain * 92 && !known) plans.push_back(plan);
        }
        std::stable_sort(plans.begin(), plans.end(), [](const Plan& x, const Plan& y) { return x.digits < y.digits; });
        for (std::size_t k = 0, n = plans.size(); k < n; ++k) plans.push_back({plans[k].link, plans[k].digits, 0});
        plans.insert(plans.begin() + (plans.empty() || plans[0].digits * 100 > plain * 85 ? 0 : std::ptrdiff_t(plans.size())),
                     Plan{{}, plain, 0});
        std::size_t kind = 0;
        for (std::size_t k = 0; k < plans.size() && !(start_ && spent()); ++k) {
            if (try_start(made(plans[k]), 0)) kind = k;
        }
        if (!start_ || spent()) return;
        const Start again = made(plans[kind]);
        for (int s = 1; s < std::min(options_.starts, int(settings().size())); ++s) try_start(again, s);
    }

    Start made(const Plan& plan) {
        return plan.link.empty() ? plain_start(problem_, rows_, digits_)
                                 : tree_start(problem_, plan.link, plan.tighter, digits_);
    }

    bool try_start(Start start, int setting) {
        if (!start.state.feasible() || (start_ && spent())) return false;
        auto copy = std::make_unique<Start>(std::move(start));
        State& state = copy->state;
        state.use(scoring(setting));
        state.queue_all();
        state.greedy();
        std::vector<Tree> trees(state.rows.size());
        Trees builder(state);
        for (std::size_t r = 0; r < trees.size(); ++r) trees[r] = plant(builder, int(r), u64(r), 0, options_.tree_tries);
        i64 cost = evaluate(state, trees, copy->row);
        work_ += state.work;
        state.work = 0;
        if (!start_) {
            u64 pass = copy->row.size() < state.rows.size() ? 2 * work_ : work_;  // differences: less work for the same
            budget_ = std::max(std::min(pass * u64(options_.passes) / 10, options_.ceiling), options_.work);
        }
        if (start_ && cost >= cost_) return false;
        start_ = std::move(copy), trees_ = std::move(trees), cost_ = best_cost_ = cost;
        best_ = graph_.result();
        return true;
    }

    bool spent() const { return work_ > budget_; }

    Tree plant(Trees& builder, int r, u64 seed, int first, int tries) {
        builder.prepare(r);
        Tree best;
        for (int k = 0; k < tries; ++k) {
            Tree tree = builder.grow(tree_setting(first + k, seed));
            work_ += 8 * tree.adds.size() * (tree.adds.size() + 4);
            if (!k || tree.cost < best.cost) best = std::move(tree);
        }
        return best;
    }

    i64 evaluate(const State& state, const std::vector<Tree>& trees, const std::vector<int>& row) {
        std::vector<int> output_row;
        for (int r : rows_.output_row) output_row.push_back(r < 0 ? -1 : row[std::size_t(r)]);
        graph_.assemble(state, trees, output_row, rows_.output_form);
        work_ += 32 * graph_.adds.size();
        return graph_.choose_signs_and_cost(options_.objective);
    }

    // Simulated annealing. The temperature is in LUTs, as steps are local: the size of the matrix does not matter. It
    // falls to 0 over the budget, and starts lower where the budget is for few steps a node. What a step costs is exact
    // for small graphs. For large ones it is the carry bits of nodes and trees, which only the rows touched change, and
    // a last round builds all trees anew and exactly, the best of many for each row.
    void improve() {
        State& state = start_->state;
        const bool local = options_.objective == Objective::kLut && int(state.order.size()) > kSmall;
        if (state.order.empty() || (spent() && !local)) return;
        Trees builder(state);
        builder.exact = !local;
        i64 bits = 0;  // of all trees
        for (std::size_t r = 0; local && !spent() && r < trees_.size(); ++r) {
            trees_[r] = plant(builder, int(r), u64(r), 0, 1);
            bits += trees_[r].cost;
        }
        if (local) cost_ = state.carry + bits;
        u64 begin = work_;
        std::vector<std::pair<int, Tree>> old;
        for (i64 step = 0; !spent() && !state.order.empty(); ++step) {
            float done = step ? float(work_ - begin) / float(budget_ - begin) : 0;
            float a_node = step ? float(step) / done / float(state.order.size()) : 0;
            float hot = kHot * std::min(1.f, a_node / (local ? 2 : 20)) * (1 - done);
            if (options_.objective == Objective::kAdders) hot *= float(1 << 20) / 12;
            state.use(some_setting());
            state.begin();
            state.kill(local ? shared(state) : victims(state));
            state.greedy();
            old.clear();
            i64 now = bits;
            for (int r : state.changed) {
                Tree tree = local ? plant(builder, r, u64(r), 0, 1) : plant(builder, r, random_.next(), random_.below(4), 2);
                now += tree.cost - trees_[std::size_t(r)].cost;
                std::swap(tree, trees_[std::size_t(r)]);
                old.emplace_back(r, std::move(tree));
            }
            i64 cost = local ? state.carry + now : evaluate(state, trees_, start_->row);
            float allowed = -hot * std::log(1e-6f + random_.real());
            if (float(cost - cost_) <= allowed) {
                cost_ = cost, bits = now;
                state.commit();
                if (!local && cost < best_cost_) best_cost_ = cost, best_ = graph_.result();
            } else {
                for (auto& [r, tree] : old) trees_[std::size_t(r)] = std::move(tree);
                state.roll_back();
            }
            work_ += state.work + state.order.size();
            state.work = 0;
        }
        if (!local) return;
        builder.exact = true;
        for (std::size_t r = 0; r < trees_.size(); ++r) trees_[r] = plant(builder, int(r), u64(r), 0, options_.last_tries);
        i64 cost = evaluate(state, trees_, start_->row);
        if (cost < best_cost_) best_cost_ = cost, best_ = graph_.result();
    }

    // Half of the nodes that two rows have in common, for a step that changes few rows.
    std::vector<int> shared(const State& state) {
        int first = random_.below(int(state.rows.size())), second = random_.below(int(state.rows.size()));
        std::vector<int> list;
        for (int id : state.rows[std::size_t(first)].ids) {
            const std::vector<int>& where = state.rows_of(id);
            bool both = id >= state.first() && std::binary_search(where.begin(), where.end(), second);
            if (both && random_.below(2)) list.push_back(id);
        }
        return list;
    }

    Setting scoring(int k) const {
        Setting s = settings()[std::size_t(k)];
        if (options_.objective == Objective::kAdders && k % 2 == 0) s.overlap_power = 0;  // then widths do not matter
        return s;
    }

    Setting some_setting() {
        Setting s = scoring(random_.below(4));
        s.noise = random_.below(2) ? 0.5f * random_.real() : 0.1f;
        s.seed = random_.next();
        return s;
    }

    std::vector<int> victims(State& state) {  // the nodes to expand
        const std::vector<int>& nodes = state.order;
        std::vector<int> list;
        if (nodes.empty()) return list;
        switch (random_.below(4)) {
            case 0:  // a few anywhere
                for (int k = 1 + random_.below(8); k > 0; --k) {
                    list.push_back(nodes[std::size_t(random_.below(int(nodes.size())))]);
                }
                break;
            case 1: {  // half of those of a row
                const Row& row = state.rows[std::size_t(random_.below(int(state.rows.size())))];
                for (int id : row.ids) {
                    if (id >= state.first() && random_.below(2)) list.push_back(id);
                }
                break;
            }
            default: {  // most of those that touch one of two inputs, at most 30
                int x = random_.below(state.first()), y = random_.below(state.first());
                for (int id : nodes) {
                    const Signal& s = state.signals[std::size_t(id)];
                    bool touches = s.a == x || s.b == x || s.a == y || s.b == y;
                    if (touches && random_.below(10) < 7) list.push_back(id);
                }
                while (list.size() > 30) {
                    std::swap(list[std::size_t(random_.below(int(list.size())))], list.back());
                    list.pop_back();
                }
            }
        }
        return list;
    }

    const Problem& problem_;
    Options options_;
    Rows rows_;
    Digits digits_;
    Random random_;
    Graph graph_;
    std::unique_ptr<Start> start_;  // where the search stands
    std::vector<Tree> trees_;
    i64 cost_ = 0, best_cost_ = 0;
    Result best_;
    u64 work_ = 0, budget_ = 0;
};

}  // namespace cmvm
