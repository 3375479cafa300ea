// Feeds any bits to the number writers of ext/float_text.hpp: what is written reads back as the same bits, within its room.
//
//   make fuzz TARGET=float_text SECONDS=600    (tests/fuzz/README.md; float_digits.cpp tries every float32)

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "float_text.hpp"

namespace {

using namespace fastserve;

// The longest that the writers promise: 8 bytes at a time are stored, so a little more than the digits is touched.
constexpr size_t kRoom = 48;

void require(bool holds, const char* what, const std::string& text) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s: %s\n", what, text.c_str());
    std::abort();
}

template <class Float, class Write>
std::string written(Float value, Write write) {
    const std::unique_ptr<char[]> room(new char[kRoom]);
    char* const end = write(room.get(), value);
    return std::string(room.get(), end);
}

template <class Float>
bool same(Float a, Float b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0 || (a != a && b != b);
}

float from_half(uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const float fraction = static_cast<float>(bits & 1023);
    const float sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(fraction, -24);
    return sign * std::ldexp(fraction + 1024, exponent - 25);
}

float from_bfloat(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
}

// Two bytes wide: the text is nearer to its own value than to either neighbour's.
void check_short(uint16_t bits, char* (*write)(char*, uint16_t), float (*read)(uint16_t)) {
    const std::string text = written(bits, write);
    const double value = read(bits);
    if (std::isnan(value)) return require(text == "NaN", "NaN", text);
    const double told = std::strtod(text.c_str(), nullptr);
    if (std::isinf(value)) return require(told == value, "an infinity", text);
    // The neighbour on the side where the text lies; that of zero's side has the bits one lower.
    const bool outward = std::fabs(told) >= std::fabs(value);
    const double other = read(static_cast<uint16_t>(outward ? bits + 1 : bits - 1));
    require(std::isinf(other) || std::fabs(told - value) <= std::fabs(other - value) / 2, "nearer than its neighbour", text);
    require(std::signbit(told) == std::signbit(value), "the sign comes back", text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    uint64_t bits = 0;
    std::memcpy(&bits, data, size < sizeof(bits) ? size : sizeof(bits));
    float narrow;
    double wide;
    const uint32_t low = static_cast<uint32_t>(bits);
    std::memcpy(&narrow, &low, sizeof(narrow));
    std::memcpy(&wide, &bits, sizeof(wide));
    const uint16_t half = static_cast<uint16_t>(bits);
    std::string text = written(narrow, write_float);
    require(same(std::strtof(text.c_str(), nullptr), narrow), "a float32 comes back", text);
    text = written(wide, write_double);
    require(same(std::strtod(text.c_str(), nullptr), wide), "a float64 comes back", text);
    check_short(half, write_float16, from_half);
    check_short(half, write_bfloat16, from_bfloat);
    return 0;
}
