// Feeds vectors through copies of the design as fast as it evaluates. The cocotb test `bulk` (bench.py) calls bulk_run
// through ctypes with NumPy buffers: words of 32 bits, lowest first, which is also how Verilator stores a port.
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ports are copied as little-endian bytes");

namespace {

struct Job {
    const uint32_t* in;
    uint32_t* out;
    const uint32_t* gaps;  // idle clocks before each vector, or null
    uint64_t in_words, out_words, latency;
    int init;  // registers at power-up: 0 zeros, 1 ones, 2 random
};

struct Failure {
    bool failed = false;
    uint64_t index = 0, clock = 0, out_valid = 0;
};

// Vectors begin..end through one copy of the design, which is reset first. A thread has its own Verilator context, so
// copies neither see each other nor the one that cocotb holds.
void run(const Job& job, uint64_t begin, uint64_t end, Failure& failure) {
    VerilatedContext context;
    context.randReset(job.init);
    context.randSeed(static_cast<int>(begin + 1));
    Vtop top{&context, "bulk"};
    std::vector<uint64_t> due(job.latency + 1);  // clock of the output of each vector in flight
    uint64_t next = begin, seen = begin, drain = job.latency + 2;
    uint64_t wait = job.gaps ? job.gaps[begin] : 0;
    top.rst = 1;
    top.in_valid = 0;
    for (uint64_t clock = 0; drain; ++clock) {
        if (clock == 1) top.rst = 0;
        const bool feed = clock > 0 && next < end && wait == 0;
        top.in_valid = feed;
        if (feed) {
            std::memcpy(&top.in_data, job.in + next * job.in_words, sizeof top.in_data);
            due[next % due.size()] = clock + job.latency;
            ++next;
            wait = job.gaps && next < end ? job.gaps[next] : 0;
        } else if (clock > 0 && wait) {
            --wait;
        }
        top.clk = 0;
        top.eval();  // the ports now show what the coming edge samples
        if (clock > 0) {
            const bool expected = seen < next && due[seen % due.size()] == clock;
            if (static_cast<bool>(top.out_valid) != expected) {
                failure = {true, seen, clock, top.out_valid};
                break;
            }
            if (expected) std::memcpy(job.out + seen++ * job.out_words, &top.out_data, sizeof top.out_data);
            if (seen == end) --drain;  // nothing may follow the last output
        }
        top.clk = 1;
        top.eval();
    }
    top.final();
}

}  // namespace

// Returns 0, or 1 with failure = {vector, clock, out_valid} of the first vector that broke the latency.
// `out` is zeroed by the caller and has n rows of out_words.
extern "C" int bulk_run(const uint32_t* in, uint32_t* out, const uint32_t* gaps, uint64_t n, uint64_t in_words,
                        uint64_t out_words, uint64_t latency, int init, uint64_t threads, uint64_t* failure) {
    const Job job{in, out, gaps, in_words, out_words, latency, init};
    std::vector<Failure> failures(threads);
    std::vector<std::thread> pool;
    for (uint64_t t = 0; t < threads; ++t)
        pool.emplace_back(run, std::cref(job), n * t / threads, n * (t + 1) / threads, std::ref(failures[t]));
    for (auto& thread : pool) thread.join();
    for (const Failure& f : failures) {
        if (!f.failed) continue;
        failure[0] = f.index, failure[1] = f.clock, failure[2] = f.out_valid;
        return 1;
    }
    return 0;
}
