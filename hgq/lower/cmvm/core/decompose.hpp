// The rows to build: outputs without duplicates, and optionally outputs as sums of differences between outputs.
#pragma once
#include <map>

#include "state.hpp"

namespace cmvm {

struct Rows {
    std::vector<std::vector<i64>> forms;             // distinct outputs: no common shift, first coefficient positive
    std::vector<int> output_row;                     // -1: constant 0
    std::vector<std::pair<int, int>> output_form;    // output = sign * row << shift, as (shift, sign)
};

inline Rows distinct_rows(const Problem& p) {
    Rows rows;
    std::map<std::vector<i64>, int> known;
    for (int o = 0; o < p.outputs; ++o) {
        std::vector<i64> form(p.matrix.begin() + std::ptrdiff_t(o) * p.inputs, p.matrix.begin() + std::ptrdiff_t(o + 1) * p.inputs);
        u64 any = 0;
        int sign = 0;
        for (i64 c : form) {
            any |= u64(c < 0 ? -c : c);
            if (!sign && c) sign = c < 0 ? -1 : 1;
        }
        int shift = any ? __builtin_ctzll(any) : 0;
        rows.output_form.push_back({shift, sign < 0 ? -1 : 1});
        if (!any) {
            rows.output_row.push_back(-1);
            continue;
        }
        for (i64& c : form) c = sign * (c >> shift);
        auto [at, fresh] = known.try_emplace(form, int(rows.forms.size()));
        if (fresh) rows.forms.push_back(form);
        rows.output_row.push_back(at->second);
    }
    return rows;
}

inline int log2_up(i64 v) { return v <= 1 ? 0 : length(u64(v - 1)); }

inline i64 kraft(const Problem& p, const std::vector<i64>& form) {
    i64 sum = 0;
    for (int i = 0; i < p.inputs; ++i) sum += i64(weight(form[std::size_t(i)])) << p.depth[std::size_t(i)];
    return sum;
}

inline int least_depth(const Problem& p, const Rows& rows) {
    int least = 0;
    for (auto& form : rows.forms) least = std::max(least, log2_up(kraft(p, form)));
    return least;
}

inline Form sparse(const std::vector<i64>& dense) {
    Form f;
    for (std::size_t i = 0; i < dense.size(); ++i) {
        if (dense[i]) f.push_back({int(i), dense[i]});
    }
    return f;
}

struct Link {  // output = difference + sign * parent; parent -1: the output itself
    int parent = -1, sign = 1, level = 1;
    std::vector<i64> difference;
    i64 digits = 0;
};

inline i64 digit_sum(const std::vector<i64>& v) {
    i64 sum = 0;
    for (i64 c : v) sum += weight(c);
    return sum;
}

// A cheapest tree over the outputs and 0 (Prim), no deeper than `levels`.
inline std::vector<Link> spanning_tree(const Rows& rows, int levels) {
    std::size_t n = rows.forms.size();
    std::vector<Link> link(n);
    std::vector<char> in(n, 0);
    for (std::size_t r = 0; r < n; ++r) {
        link[r].difference = rows.forms[r];
        link[r].digits = digit_sum(rows.forms[r]);
    }
    for (std::size_t step = 0; step < n; ++step) {
        std::size_t next = n;
        for (std::size_t r = 0; r < n; ++r) {
            if (!in[r] && (next == n || link[r].digits < link[next].digits)) next = r;
        }
        in[next] = 1;
        if (link[next].level >= levels) continue;
        for (std::size_t r = 0; r < n; ++r) {
            if (in[r]) continue;
            for (int sign = 1; sign >= -1; sign -= 2) {
                i64 sum = 0;
                for (std::size_t i = 0; i < rows.forms[r].size(); ++i) {
                    sum += weight(rows.forms[r][i] - sign * rows.forms[next][i]);
                }
                if (sum >= link[r].digits) continue;
                link[r].parent = int(next), link[r].sign = sign, link[r].level = link[next].level + 1, link[r].digits = sum;
                for (std::size_t i = 0; i < rows.forms[r].size(); ++i) {
                    link[r].difference[i] = rows.forms[r][i] - sign * rows.forms[next][i];
                }
            }
        }
    }
    return link;
}

struct Start {
    State state;
    std::vector<int> row;  // for each distinct output, the row of the state that is its value
};

inline Start plain_start(const Problem& p, const Rows& rows, Digits& digits) {
    Start start{State(p, digits), {}};
    start.state.first_node();
    for (auto& form : rows.forms) {
        start.row.push_back(int(start.state.rows.size()));
        start.state.add_row(sparse(form), p.limit);
    }
    return start;
}

// Rows 0..n-1 are the differences; outputs further from 0 follow as sums of them. Infeasible starts come back too.
inline Start tree_start(const Problem& p, const std::vector<Link>& link, int tighter, Digits& digits) {
    Start start{State(p, digits), {}};
    std::size_t n = link.size();
    std::vector<int> limit(n, p.limit);
    std::vector<std::vector<std::pair<int, int>>> path(n);  // (difference, sign)
    for (std::size_t r = 0; r < n; ++r) {
        int sign = 1;
        for (int at = int(r); at >= 0; at = link[std::size_t(at)].parent) {
            path[r].push_back({at, sign});
            sign *= link[std::size_t(at)].sign;
        }
        if (path[r].size() < 2) continue;
        int room = p.limit - log2_up(i64(path[r].size())) - tighter;
        for (auto& [at, s] : path[r]) limit[std::size_t(at)] = std::min(limit[std::size_t(at)], room);
    }
    bool possible = true;
    for (std::size_t r = 0; r < n; ++r) {
        possible = possible && limit[r] >= 0;
        start.state.add_row_value(sparse(link[r].difference), std::max(limit[r], 0));
    }
    start.state.first_node();
    if (!possible) limit.assign(n, 0);  // then no row fits, and `feasible` says so
    for (std::size_t r = 0; r < n; ++r) start.state.add_row(sparse(link[r].difference), limit[r]);
    for (std::size_t r = 0; r < n; ++r) {
        start.row.push_back(int(r));
        if (path[r].size() < 2) continue;
        start.row[r] = int(start.state.rows.size());
        Form form;
        for (auto& [at, sign] : path[r]) form.push_back({p.inputs + at, sign});
        start.state.add_row(form, p.limit);
    }
    return start;
}

}  // namespace cmvm
