// C interface of the evaluator that hgq.refinement drives; hgq/refinement/native.py states the arguments.
#include <cstdint>
#include <new>

#include "gradient.hpp"

using namespace refine;

namespace {

template <class T>
std::vector<T> copied(const T* from, size_t count) {
    return std::vector<T>(from, from + count);
}

// From "who belongs to which list" to where each list starts, and its members in their order.
void lists(const int32_t* list_of, int members, int count, std::vector<int32_t>& start, std::vector<int32_t>& member) {
    start.assign(count + 1, 0);
    for (int i = 0; i < members; i++)
        if (list_of[i] >= 0) start[list_of[i] + 1]++;
    for (int k = 0; k < count; k++) start[k + 1] += start[k];
    member.assign(start[count], 0);
    std::vector<int32_t> next(start.begin(), start.end() - 1);
    for (int i = 0; i < members; i++)
        if (list_of[i] >= 0) member[next[list_of[i]]++] = i;
}

}  // namespace

extern "C" {

struct Given {
    int32_t elements, samples, entries, params, groups, table_size;
    const uint8_t* kind;
    const int32_t* grid;
    const double* width;
    const int32_t *from, *from_source, *from_shift;
    const Rule* rule;
    const int32_t* group_of;                       // of each element, or -1
    const int32_t *source, *destination, *param;   // of each entry
    const double *unit, *fixed;
    const int32_t* bias_param;                     // of each element, or -1
    const int64_t* bias;                           // of each element, where no parameter says it
    const double* value;                           // of each parameter
    const Type* type;                              // of each group
    const int64_t* table;
    const int64_t* inputs;                         // samples x elements: the first values of INPUT elements
    Prices prices;
};

void* refine_create(const Given* g) {
    Change* c = new (std::nothrow) Change;
    if (!c) return nullptr;
    try {
        Change& net = *c;
        const int n = net.n = g->elements, entries = g->entries;
        net.samples = g->samples;
        net.prices = g->prices;
        net.kind = copied(g->kind, n);
        net.grid = copied(g->grid, n);
        net.width = copied(g->width, n);
        net.from = copied(g->from, n + 1);
        net.from_source = copied(g->from_source, net.from[n]);
        net.from_shift = copied(g->from_shift, net.from[n]);
        net.rule = copied(g->rule, n);
        net.table = copied(g->table, g->table_size);
        net.source = copied(g->source, entries);
        net.param_of = copied(g->param, entries);
        net.unit = copied(g->unit, entries);
        net.bias_param = copied(g->bias_param, n);
        net.bias = copied(g->bias, n);
        net.value = copied(g->value, g->params);
        net.type = copied(g->type, g->groups);
        std::vector<int32_t> user_of(net.from[n]);
        for (int e = 0; e < n; e++)
            for (int k = net.from[e]; k < net.from[e + 1]; k++) user_of[k] = e;
        lists(net.from_source.data(), net.from[n], n, net.to, net.to_user);
        for (int32_t& user : net.to_user) user = user_of[user];
        lists(net.source.data(), entries, n, net.start, net.entry_of_place);
        lists(g->destination, entries, n, net.sum_start, net.sum_entry);
        lists(net.param_of.data(), entries, g->params, net.param_start, net.param_entry);
        lists(net.bias_param.data(), n, g->params, net.bias_start, net.bias_element);
        lists(g->group_of, n, g->groups, net.group_start, net.group_element);
        net.place_of_entry.assign(entries, 0);
        net.dst.assign(entries, 0);
        for (int place = 0; place < entries; place++) {
            net.place_of_entry[net.entry_of_place[place]] = place;
            net.dst[place] = g->destination[net.entry_of_place[place]];
        }
        net.coefficient.assign(entries, 0);
        net.count.assign(n, 0);
        for (int k = 0; k < entries; k++) {
            const double v = net.param_of[k] < 0 ? g->fixed[k] : net.value[net.param_of[k]];
            net.set_coefficient(k, static_cast<int64_t>(v * net.unit[k]));
        }
        for (int e = 0; e < n; e++) {
            if (net.bias_param[e] >= 0) net.bias[e] = static_cast<int64_t>(std::ldexp(net.value[net.bias_param[e]], net.grid[e]));
            if (g->group_of[e] >= 0 && net.kind[e] == QUANTIZE) net.set_rule(e, net.type[g->group_of[e]]);
        }
        net.base = copied(g->inputs, static_cast<size_t>(n) * net.samples);
    } catch (const std::bad_alloc&) {
        delete c;
        return nullptr;
    }
    return c;
}

void refine_delete(void* net) { delete static_cast<Change*>(net); }

void refine_output(void* net, int kind, int rows, int classes, double weight, const int32_t* elements, const double* lsb,
                   const float* target) {
    Output o{static_cast<LossKind>(kind), rows, classes, weight, copied(elements, size_t(rows) * classes),
             copied(lsb, size_t(rows) * classes), target};
    static_cast<Change*>(net)->outputs.push_back(o);
}

void refine_prepare(void* net) { static_cast<Change*>(net)->prepare(); }

double refine_cost(void* net) { return static_cast<Change*>(net)->total_cost; }

const double* refine_costs(void* net) { return static_cast<Change*>(net)->cost.data(); }

const double* refine_losses(void* net) { return static_cast<Change*>(net)->losses.data(); }

const int64_t* refine_values(void* net) { return static_cast<Change*>(net)->base.data(); }

double refine_apply(void* net, int count, const int32_t* params, const double* values, int groups, const int32_t* group,
                    const Type* types) {
    Change& c = *static_cast<Change*>(net);
    c.apply(count, params, values, groups, group, types);
    return c.total_cost - c.cost_before;
}

int refine_evaluate(void* net, int first, int last, double limit, int chunk, double z, double* out) {
    return static_cast<Change*>(net)->evaluate(first, last, limit, chunk, z, out);
}

void refine_keep(void* net) { static_cast<Change*>(net)->keep(); }

void refine_revert(void* net) { static_cast<Change*>(net)->revert(); }

void refine_gradient(void* net, int first, int last, int dead, double* gradient, double* curvature) {
    Gradient(*static_cast<Change*>(net)).run(first, last, dead != 0, gradient, curvature);
}
}
