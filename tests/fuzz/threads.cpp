// Runs a target over the files that are named on several threads at once, for ThreadSanitizer: the kernels run without the
// GIL, so what they share (tables, anything made at its first use) must be shared well. And the load generator's loop, that
// other threads look at and stop.

#include <cstdint>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "load_loop.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int THREADS = 4;

void watch_a_loop() {
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";
    loadgen::Loop loop(2, {{request, sizeof request - 1}}, {}, true);
    loop.aim(AF_INET, "127.0.0.1", 1);  // nobody listens: every request is counted as failed
    loadgen::Plan plan;
    plan.duration_ns = 20'000'000'000;
    plan.timeout_ns = 1'000'000'000;
    std::thread runs([&] { loop.run(plan); });
    while (loop.good() + loop.bad() == 0) std::this_thread::yield();
    loop.stop();
    runs.join();
}

}  // namespace

int main(int count, char** names) {
    std::vector<std::vector<char>> inputs;
    for (int i = 1; i < count; ++i) {
        std::ifstream file(names[i], std::ios::binary);
        inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    std::vector<std::thread> threads;
    for (int number = 0; number < THREADS; ++number) {
        threads.emplace_back([&inputs] {
            for (const auto& one : inputs) {
                LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(one.data()), one.size());
            }
        });
    }
    for (auto& one : threads) one.join();
    watch_a_loop();
    return 0;
}
