// Runs a target over the files that are named, without a fuzzer: links with any compiler that has the sanitizers.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int count, char** names) {
    for (int i = 1; i < count; ++i) {
        std::fprintf(stderr, "%s\n", names[i]);  // the last one named is the one that ended us
        std::ifstream file(names[i], std::ios::binary);
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    }
    return 0;
}
