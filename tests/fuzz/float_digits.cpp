// Compares ext/float_text.hpp with the standard library: round trip, and the very digits of the shortest decimal.
//
//   g++ -std=c++17 -O2 -pthread -Iext tests/fuzz/float_digits.cpp -o build/float_digits
//   build/float_digits [step]
//
// Every `step`th float32 pattern (1: all of them, an hour of CPU), as many random doubles, every float16 and bfloat16.
// Exit 1 and the first texts that differ when something does.

#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "float_text.hpp"

namespace {

std::atomic<long> failures{0};

void fail(const char* what, const std::string& got, const std::string& expected) {
    if (++failures <= 20) std::printf("%s: got %s, expected %s\n", what, got.c_str(), expected.c_str());
}

// Sign, significant digits and decimal exponent of a decimal text, in one form for all layouts: "-125e-4".
std::string canonical(const char* text, const char* end) {
    std::string digits;
    std::string sign;
    int power = 0;
    bool behind_point = false;
    for (; text != end; ++text) {
        if (*text == '-') sign = "-";
        if (*text == '.') behind_point = true;
        if (*text == 'e') {
            const char* exponent = text + (text[1] == '+' ? 2 : 1);
            int value = 0;
            std::from_chars(exponent, end, value);
            power += value;
            break;
        }
        if (*text >= '0' && *text <= '9') {
            if (*text != '0' || !digits.empty()) digits += *text;
            power -= behind_point;
        }
    }
    while (!digits.empty() && digits.back() == '0') {
        digits.pop_back();
        ++power;
    }
    return digits.empty() ? sign + "0" : sign + digits + "e" + std::to_string(power);
}

template <class Float, char* (*write)(char*, Float)>
void compare(const char* what, Float value) {
    if (!std::isfinite(value)) return;
    char got[64];
    char expected[64];
    char* const got_end = write(got, value);
    constexpr auto form = std::chars_format::scientific;
    char* const expected_end = std::to_chars(expected, expected + sizeof expected, value, form).ptr;
    Float back = 0;
    const auto read = std::from_chars(got, got_end, back);
    const bool same = read.ptr == got_end && back == value && std::signbit(back) == std::signbit(value);
    if (!same || canonical(got, got_end) != canonical(expected, expected_end))
        fail(what, std::string(got, got_end), std::string(expected, expected_end));
    for (const char* at = got; at != got_end; ++at)
        if (*at == '.' || *at == 'e') return;
    fail("no point and no exponent", std::string(got, got_end), "one of them");
}

void compare_floats(std::uint64_t first, std::uint64_t step) {
    std::mt19937_64 random(first);
    for (std::uint64_t pattern = first; pattern < std::uint64_t{1} << 32; pattern += step) {
        const auto bits = static_cast<std::uint32_t>(pattern);
        float value;
        std::memcpy(&value, &bits, sizeof value);
        compare<float, fastserve::write_float>("float32", value);
        const std::uint64_t wide_bits = random();
        double wide;
        std::memcpy(&wide, &wide_bits, sizeof wide);
        compare<double, fastserve::write_double>("float64", wide);
    }
}

void compare_powers_of_two() {
    for (std::uint64_t exponent = 0; exponent < 2047; ++exponent) {
        for (int step = -4; step <= 4; ++step) {
            const std::uint64_t bits = (exponent << 52) + static_cast<std::uint64_t>(static_cast<std::int64_t>(step));
            double value;
            std::memcpy(&value, &bits, sizeof value);
            compare<double, fastserve::write_double>("float64", value);
        }
    }
}

double float16_value(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31;
    const int fraction = bits & 1023;
    if (exponent == 31) return fraction ? NAN : (bits >> 15 ? -INFINITY : INFINITY);
    const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
    return bits >> 15 ? -size : size;
}

double bfloat16_value(std::uint16_t bits) {
    const std::uint32_t wide = std::uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

// No standard library knows these: the text must lie nearer to its value than to the neighbours, and one digit less
// must not.
template <char* (*write)(char*, std::uint16_t), double (*value_of)(std::uint16_t)>
void compare_halves(const char* what, int greatest) {
    for (int bits = 1; bits <= greatest; ++bits) {
        const double value = value_of(static_cast<std::uint16_t>(bits));
        const double below = value_of(static_cast<std::uint16_t>(bits - 1));
        const double above = bits < greatest ? value_of(static_cast<std::uint16_t>(bits + 1)) : 2 * value - below;
        const auto within = [&](double read) {
            const bool even = bits % 2 == 0;
            const double lower = (below + value) / 2;  // exact: doubles have bits to spare
            const double upper = (value + above) / 2;
            return even ? lower <= read && read <= upper : lower < read && read < upper;
        };
        char text[64];
        char* const end = write(text, static_cast<std::uint16_t>(bits));
        const std::string got(text, end);
        if (!within(std::strtod(got.c_str(), nullptr))) fail(what, got, std::to_string(value));
        const std::string digits = canonical(text, end);
        const int count = static_cast<int>(digits.find('e'));
        if (count < 2) continue;
        char shorter[64];
        std::snprintf(shorter, sizeof shorter, "%.*e", count - 2, value);
        if (within(std::strtod(shorter, nullptr))) fail(what, got, shorter);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const long step = argc > 1 ? std::atol(argv[1]) : 997;
    if (step < 1) return 2;
    compare_halves<fastserve::write_float16, float16_value>("float16", 0x7BFF);
    compare_halves<fastserve::write_bfloat16, bfloat16_value>("bfloat16", 0x7F7F);
    compare_powers_of_two();
    const unsigned threads = std::thread::hardware_concurrency();
    std::vector<std::thread> pool;
    for (unsigned i = 0; i < threads; ++i)
        pool.emplace_back(compare_floats, std::uint64_t{i} * step, std::uint64_t{threads} * step);
    for (std::thread& thread : pool) thread.join();
    std::printf("%ld differences\n", failures.load());
    return failures.load() == 0 ? 0 : 1;
}
