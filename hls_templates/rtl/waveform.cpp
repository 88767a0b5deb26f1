// waveform FILE LATENCY WORD...: drives one vector (32-bit words in hex, lowest first) and writes every signal.
#include "Vtop.h"
#include "verilated.h"
#include "verilated_vcd_c.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// In place of Verilator's own, which flushes the file and so waits for itself for ever where the disk is full.
void vl_fatal(const char *, int, const char *, const char *message) {
    std::fprintf(stderr, "%s\n", message);
    std::_Exit(1);
}

template <class T> static void put(T &port, const std::vector<uint32_t> &words) {
    uint64_t all = 0;
    for (size_t i = 0; i < words.size() && i < 2; i++) all |= uint64_t(words[i]) << (32 * i);
    port = static_cast<T>(all);
}

template <std::size_t N> static void put(VlWide<N> &port, const std::vector<uint32_t> &words) {
    for (std::size_t i = 0; i < N; i++) port[i] = i < words.size() ? words[i] : 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 1;
    VerilatedContext context;
    context.traceEverOn(true);
    Vtop top{&context};
    VerilatedVcdC file;
    top.trace(&file, 99);
    file.open(argv[1]);
    std::vector<uint32_t> sample, nothing;
    for (int i = 3; i < argc; i++) sample.push_back(uint32_t(std::strtoul(argv[i], nullptr, 16)));
    const int latency = std::atoi(argv[2]);
    for (int clock = 0; clock < latency + 6; clock++) {
        top.rst = clock < 2;
        top.in_valid = clock == 3;
        put(top.in_data, clock == 3 ? sample : nothing);
        for (int high = 0; high < 2; high++) {
            top.clk = high;
            top.eval();
            file.dump(uint64_t(clock) * 10 + uint64_t(high) * 5);
        }
    }
    file.close();
    top.final();
    return 0;
}
