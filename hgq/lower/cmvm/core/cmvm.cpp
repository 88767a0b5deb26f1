// C interface of the solver, for ctypes. Integers only; no exceptions leave.
#include <cstring>

#include "search.hpp"

using namespace cmvm;

extern "C" {

struct cmvm_options {
    std::int32_t objective, starts, decompositions, tree_tries, last_tries, search, passes;
    std::uint64_t ceiling, work, seed;
    std::int32_t limit, extra_depth;  // adder levels: limit if >= 0, else the least possible + extra_depth
};

// Each add is a, b, sa, sb, pa, pb: pa * (a << sa) + pb * (b << sb); references count inputs first, then adds.
// Each output is ref, shift, sign; ref -1: constant 0. Returns the number of adds, or
// -1: the depth limit cannot be kept, -2: more than `capacity` adds, -3: out of memory or another failure.
int cmvm_solve(std::int32_t inputs, std::int32_t outputs, const std::int64_t* matrix, const std::int64_t* lo,
               const std::int64_t* hi, const std::int32_t* depth, const std::uint8_t* free_negate,
               const cmvm_options* o, std::int32_t capacity, std::int32_t* adds, std::int64_t* ranges,
               std::int32_t* out) {
    try {
        Problem p;
        p.inputs = inputs, p.outputs = outputs;
        p.matrix.assign(matrix, matrix + std::ptrdiff_t(inputs) * outputs);
        p.lo.assign(lo, lo + inputs), p.hi.assign(hi, hi + inputs);
        p.depth.assign(depth, depth + inputs);
        p.free_negate.assign(free_negate, free_negate + outputs);
        int least = least_depth(p, distinct_rows(p));
        p.limit = o->limit >= 0 ? o->limit : least + o->extra_depth;
        if (p.limit < least) return -1;
        Options options;
        options.objective = Objective(o->objective);
        options.starts = o->starts, options.decompositions = o->decompositions, options.tree_tries = o->tree_tries;
        options.last_tries = o->last_tries;
        options.search = o->search, options.passes = o->passes, options.ceiling = o->ceiling, options.work = o->work, options.seed = o->seed;
        Result result;
        if (!Search(p, options).run(result)) return -1;
        if (result.adds.size() > std::size_t(capacity)) return -2;
        std::vector<Form> forms;
        for (int i = 0; i < inputs; ++i) forms.push_back({{i, 1}});
        for (std::size_t k = 0; k < result.adds.size(); ++k) {
            const Add& x = result.adds[k];
            int pa = result.first[k], pb = x.sign;
            std::int32_t* to = adds + 6 * k;
            to[0] = x.a, to[1] = x.b, to[2] = x.sa, to[3] = x.sb, to[4] = pa, to[5] = pb;
            // Ranges are computed anew from the graph itself, not taken from the search.
            Form form = sum(forms[std::size_t(x.a)], x.sa, forms[std::size_t(x.b)], x.sb, pa * pb);
            if (pa < 0) {
                for (auto& term : form) term.second = -term.second;
            }
            Bounds r = bounds(p, form);
            ranges[2 * k] = r.lo, ranges[2 * k + 1] = r.hi;
            forms.push_back(std::move(form));
        }
        for (std::size_t k = 0; k < result.outputs.size(); ++k) {
            const Output& x = result.outputs[k];
            out[3 * k] = x.ref, out[3 * k + 1] = x.shift, out[3 * k + 2] = x.sign;
        }
        return int(result.adds.size());
    } catch (...) {
        return -3;
    }
}
}
