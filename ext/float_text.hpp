// Floats to the shortest decimal text that reads back as the same float, in the float's own type.
//
// Algorithm: Raffaello Giulietti, "The Schubfach way to render doubles" (2021), from the paper: the decimal with the
// fewest digits inside the float's rounding interval, found with one multiplication by a power of ten per interval end.
// Digits: eight at a time inside one register, after Paul Khuong, "How to print integers really fast" (2017).
// The tables of powers are computed by the compiler. Pure functions, no allocation. tests/fuzz/float_digits.cpp
// compares all float32, float16 and bfloat16 and any number of doubles with the standard library.
//
// Every writer stores up to SLACK_BYTES behind the text it answers for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastserve {

constexpr std::size_t SLACK_BYTES = 32;
constexpr std::size_t FLOAT_TEXT_BYTES = 15;   // "-0.000123456789", "-1.23456789e-38"
constexpr std::size_t DOUBLE_TEXT_BYTES = 24;  // "-1.2345678901234567e-308"

using uint128 = unsigned __int128;

// floor(log10(2^q)), floor(log10(3/4 * 2^q)) and floor(log2(10^k)), exact for |q| <= 1500 and |k| <= 400.
constexpr int floor_log10_pow2(int q) { return (q * 1262611) >> 22; }
constexpr int floor_log10_three_quarters_pow2(int q) { return (q * 1262611 - 524031) >> 22; }
constexpr int floor_log2_pow10(int k) { return (k * 1741647) >> 19; }

// A natural number of 1152 bits, for making the tables: 10^324 has 1077 bits, and 2^1151 / 10^292 keeps 181 of them.
struct Wide {
    static constexpr int LIMBS = 36;
    std::uint32_t limbs[LIMBS] = {};  // least significant first

    constexpr void multiply_by_ten() {
        std::uint64_t carry = 0;
        for (int i = 0; i < LIMBS; ++i) {
            carry += std::uint64_t{limbs[i]} * 10;
            limbs[i] = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
    }

    // Rounds down; so does a chain of them: floor(floor(n / 10) / 10) == floor(n / 100).
    constexpr void divide_by_ten() {
        std::uint64_t rest = 0;
        for (int i = LIMBS - 1; i >= 0; --i) {
            rest = (rest << 32) | limbs[i];
            limbs[i] = static_cast<std::uint32_t>(rest / 10);
            rest %= 10;
        }
    }

    constexpr int bit(int at) const { return at < 0 ? 0 : (limbs[at / 32] >> (at % 32)) & 1; }

    // The 128 most significant bits, the first of them set; zeros behind a shorter number.
    constexpr uint128 leading() const {
        int top = LIMBS * 32 - 1;
        while (bit(top) == 0) --top;
        uint128 bits = 0;
        for (int i = 0; i < 128; ++i) bits = (bits << 1) | static_cast<unsigned>(bit(top - i));
        return bits;
    }
};

// g(k) = floor(10^k * 2^(Bits - 1 - floor(log2(10^k)))) + 1, that is 10^k in `Bits` bits, never below it.
template <class Word, int Bits, int Min, int Max>
constexpr std::array<Word, Max - Min + 1> powers_of_ten() {
    std::array<Word, Max - Min + 1> table{};
    Wide power{};
    power.limbs[0] = 1;
    for (int k = 0; k <= Max; ++k, power.multiply_by_ten())
        table[k - Min] = static_cast<Word>(power.leading() >> (128 - Bits)) + 1;
    Wide inverse{};
    inverse.limbs[Wide::LIMBS - 1] = std::uint32_t{1} << 31;
    for (int k = -1; k >= Min; --k) {
        inverse.divide_by_ten();
        table[k - Min] = static_cast<Word>(inverse.leading() >> (128 - Bits)) + 1;
    }
    return table;
}

constexpr std::array<std::uint64_t, 20> POWERS_OF_TEN = [] {
    std::array<std::uint64_t, 20> powers{};
    std::uint64_t power = 1;
    for (auto& slot : powers) {
        slot = power;
        power *= 10;
    }
    return powers;
}();

// `value` must not be 0.
inline int count_digits(std::uint64_t value) {
    const int guess = ((64 - __builtin_clzll(value)) * 1233) >> 12;
    return guess + (value >= POWERS_OF_TEN[guess]);
}

// Everything that differs between the types of up to 24 bits of precision and double.
struct Narrow {
    using Word = std::uint32_t;  // holds four times a scaled significand
    using Rest = std::uint64_t;  // holds all digits but the first, one a byte
    static constexpr int DIGITS = 9;
    static constexpr int FIXED_BELOW = 8;  // 99999999.0, then 1e8: nine digits at most, the added 0 included
    static constexpr int MIN_POWER = -36;  // bfloat16; float32 needs -31
    static constexpr int MAX_POWER = 45;
    static constexpr auto POWERS = powers_of_ten<std::uint64_t, 64, MIN_POWER, MAX_POWER>();

    static int length(Word digits) { return count_digits(digits); }

    // floor(g * c), with the lowest bit set when the rest is not zero. g is up to 1 too large, hence the 1.
    static Word scale(std::uint64_t g, Word c) {
        const std::uint64_t low = (g & 0xFFFFFFFF) * c;
        const std::uint64_t product = (g >> 32) * c + (low >> 32);
        return static_cast<Word>(product >> 32) | (static_cast<std::uint32_t>(product) > 1);
    }
};

struct Double {
    using Word = std::uint64_t;
    using Rest = uint128;
    static constexpr int DIGITS = 17;
    static constexpr int FIXED_BELOW = 16;
    static constexpr int MIN_POWER = -292;
    static constexpr int MAX_POWER = 324;
    static constexpr auto POWERS = powers_of_ten<uint128, 128, MIN_POWER, MAX_POWER>();

    static int length(Word digits) {
        if (__builtin_expect(digits < 1000000000000000, 0)) return count_digits(digits);  // subnormal
        return 16 + (digits >= 10000000000000000);
    }

    static Word scale(uint128 g, Word c) {
        const uint128 low = uint128{static_cast<std::uint64_t>(g)} * c;
        const uint128 product = uint128{static_cast<std::uint64_t>(g >> 64)} * c + (low >> 64);
        return static_cast<Word>(product >> 64) | (static_cast<std::uint64_t>(product) > 1);
    }
};

constexpr int FIXED_FROM = -4;  // 0.0001, then 1e-5

template <class Type>
struct Decimal {
    typename Type::Word digits;
    int power;  // the value is digits * 10^power; digits may end in zeros
};

// The shortest decimal for c * 2^q. `uneven`: c is the least significand of its exponent and not of the least exponent,
// so that the next float below is half as far away as the one above.
template <class Type>
inline Decimal<Type> shortest(typename Type::Word c, int q, bool uneven) {
    using Word = typename Type::Word;
    const Word odd = c & 1;  // an even significand owns the ends of its interval, an odd one does not
    const int k = uneven ? floor_log10_three_quarters_pow2(q) : floor_log10_pow2(q);
    const int shift = q + floor_log2_pow10(-k) + 1;
    const auto g = Type::POWERS[-k - Type::MIN_POWER];
    const Word lower = Type::scale(g, (4 * c - 2 + uneven) << shift) + odd;
    const Word value = Type::scale(g, (4 * c) << shift);
    const Word upper = Type::scale(g, (4 * c + 2) << shift) - odd;
    const Word floor = value / 4;
    const Word tens = floor / 10;
    // Nothing here is predictable, so nothing branches: all candidates are made, the comparisons choose.
    const bool tens_down = lower <= 40 * tens;
    const bool tens_up = 40 * tens + 40 <= upper;
    const bool down = lower <= 4 * floor;
    const bool up = 4 * floor + 4 <= upper;
    const Word middle = 4 * floor + 2;
    const bool nearest_up = (value > middle) | ((value == middle) & (floor & 1));
    const Word ones = floor + ((down != up) ? up : nearest_up);
    const Word shorter = 10 * (tens + tens_up);
    return {(tens_down != tens_up) & (floor >= 10) ? shorter : ones, k};
}

// The eight digits of a number below 10^8, one a byte, the first in the lowest.
inline std::uint64_t eight_digits(std::uint32_t value) {
    const std::uint64_t fours = (value / 10000) | (std::uint64_t{value % 10000} << 32);
    const std::uint64_t hundreds = ((fours * 10486) >> 20) & 0x0000007F0000007F;
    const std::uint64_t twos = hundreds | ((fours - 100 * hundreds) << 16);
    const std::uint64_t tens = ((twos * 103) >> 10) & 0x000F000F000F000F;
    return tens | ((twos - 10 * tens) << 8);
}

constexpr std::uint64_t EIGHT_ZEROS = 0x3030303030303030;

inline void digits_behind_first(std::uint64_t rest, std::uint64_t& bytes) {
    bytes = eight_digits(static_cast<std::uint32_t>(rest));
}

inline void digits_behind_first(std::uint64_t rest, uint128& bytes) {
    bytes = eight_digits(static_cast<std::uint32_t>(rest / 100000000))
            | (uint128{eight_digits(static_cast<std::uint32_t>(rest % 100000000))} << 64);
}

// How many bytes are needed to hold the last one that is not zero. The mark stands in the first digit's byte, above the
// digit: with nothing but it, the count of zero bits is 63, not 64.
inline int used_bytes(std::uint64_t bytes) {
    constexpr std::uint64_t MARK = std::uint64_t{1} << 63;
    return 8 - ((__builtin_ctzll(__builtin_bswap64(bytes) | MARK) + 1) >> 3);
}

inline int used_bytes(uint128 bytes) {
    const auto high = static_cast<std::uint64_t>(bytes >> 64);
    return high != 0 ? 8 + used_bytes(high) : used_bytes(static_cast<std::uint64_t>(bytes));
}

inline std::uint64_t in_ascii(std::uint64_t digits) { return digits | EIGHT_ZEROS; }
inline uint128 in_ascii(uint128 digits) { return digits | EIGHT_ZEROS | (uint128{EIGHT_ZEROS} << 64); }

inline char* write_exponent(char* out, int exponent) {
    *out++ = 'e';
    *out = '-';
    out += exponent < 0;
    unsigned left = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
    if (left >= 100) {
        *out++ = static_cast<char>('0' + left / 100);
        left %= 100;
        *out++ = static_cast<char>('0' + left / 10);
    } else if (left >= 10) {
        *out++ = static_cast<char>('0' + left / 10);
    }
    *out++ = static_cast<char>('0' + left % 10);
    return out;
}

// Lay out a decimal of Type::DIGITS digits, the first not 0, whose first digit counts 10^exponent: always with a point
// or an exponent, without zeros at the end.
template <class Type>
inline char* lay_out(char* out, std::uint64_t digits, int exponent) {
    using Rest = typename Type::Rest;
    constexpr std::uint64_t FIRST = POWERS_OF_TEN[Type::DIGITS - 1];
    const auto first = static_cast<char>('0' + digits / FIRST);
    Rest rest;
    digits_behind_first(digits % FIRST, rest);
    const int significant = 1 + used_bytes(rest);
    rest = in_ascii(rest);
    if (static_cast<unsigned>(exponent - FIXED_FROM) < static_cast<unsigned>(Type::FIXED_BELOW - FIXED_FROM)) {
        // 12.5 and 0.00125 by the same stores, those of the other doing no harm: which of them comes is not
        // predictable.
        const int negative = exponent >> 31;
        const int zeros = -(exponent & negative);
        const int whole = exponent & ~negative;
        std::memcpy(out, "0.000000", 8);
        out[zeros - negative] = first;
        std::memcpy(out + zeros - negative + 1, &rest, sizeof rest);
        out[whole + 1] = '.';
        rest >>= 8 * whole;
        std::memcpy(out + whole + zeros + 2, &rest, sizeof rest);
        const int missing = whole + 2 - significant - zeros;  // 120.0 has a digit that is not significant
        return out + 1 + significant + zeros + (missing & ~(missing >> 31));
    }
    out[0] = first;  // 1.25e-7
    out[1] = '.';
    std::memcpy(out + 2, &rest, sizeof rest);
    return write_exponent(out + (significant > 1 ? significant + 1 : 1), exponent);
}

template <class Type>
inline char* write_decimal(char* out, Decimal<Type> decimal) {
    const int length = Type::length(decimal.digits);
    return lay_out<Type>(out, decimal.digits * POWERS_OF_TEN[Type::DIGITS - length], decimal.power + length - 1);
}

// One float from its bits: `Fraction` bits below the hidden one, then `Exponent` bits, then the sign.
template <class Type, int Fraction, int Exponent>
inline char* write_bits(char* out, typename Type::Word bits) {
    using Word = typename Type::Word;
    constexpr Word HIDDEN = Word{1} << Fraction;
    constexpr int TOP = (1 << Exponent) - 1;
    constexpr int OFFSET = (TOP >> 1) + Fraction;
    static_assert(-floor_log10_pow2(TOP - 1 - OFFSET) >= Type::MIN_POWER, "the greatest exponent needs this power");
    static_assert(-floor_log10_three_quarters_pow2(1 - OFFSET) <= Type::MAX_POWER, "and the least this one");
    Word fraction = bits & (HIDDEN - 1);
    const int biased = static_cast<int>(bits >> Fraction) & TOP;
    const bool negative = (bits >> (Fraction + Exponent)) & 1;
    if (biased == TOP && fraction != 0) {
        std::memcpy(out, "NaN", 3);
        return out + 3;
    }
    *out = '-';
    out += negative;
    if (biased == TOP) {
        std::memcpy(out, "Infinity", 8);
        return out + 8;
    }
    if (biased == 0 && fraction == 0) {
        std::memcpy(out, "0.0", 3);
        return out + 3;
    }
    const bool uneven = fraction == 0 && biased > 1;
    fraction |= biased == 0 ? 0 : HIDDEN;
    return write_decimal<Type>(out, shortest<Type>(fraction, (biased == 0 ? 1 : biased) - OFFSET, uneven));
}

// What `write_float` needs for all floats of one exponent. Scaled: times 10^-k, with k as in `shortest`.
struct Binade {
    double scale;             // 10^-k
    double half_gap;          // half the scaled distance of two neighbours: at least 0.5, below 5
    std::uint32_t limit;      // least scaled value that has one digit more; 0: no such binade
    std::uint32_t factor[2];  // makes nine digits of a scaled value below the limit, and of one that is not
    std::int32_t exponent;    // of the first digit, below the limit
};

constexpr double power_of_two(int exponent) {
    double power = 1;
    for (; exponent > 0; --exponent) power *= 2;
    for (; exponent < 0; ++exponent) power /= 2;
    return power;
}

constexpr std::array<Binade, 256> BINADES = [] {
    std::array<Binade, 256> table{};
    for (int biased = 1; biased < 255; ++biased) {
        const int q = biased - 150;
        const int k = floor_log10_pow2(q);
        Binade& binade = table[biased];
        binade.scale =
            static_cast<double>(Narrow::POWERS[-k - Narrow::MIN_POWER]) * power_of_two(floor_log2_pow10(-k) - 63);
        binade.half_gap = power_of_two(q - 1) * binade.scale;
        const bool seven_digits = 16777216 * binade.half_gap < 10000000;
        binade.limit = seven_digits ? 10000000 : 100000000;
        binade.factor[0] = seven_digits ? 100 : 10;
        binade.factor[1] = seven_digits ? 10 : 1;
        binade.exponent = k + (seven_digits ? 6 : 7);
    }
    return table;
}();

// The same decimal as `shortest` finds, sooner: a double has 29 bits more than a float, so it tells on which side of a
// limit the scaled value lies, but for a sliver of one in 10^5 at each. Those, and zero, powers of two (uneven gaps),
// subnormals and what is not finite, take the exact way.
inline char* write_float(char* out, float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const Binade& binade = BINADES[(bits >> 23) & 0xFF];
    if ((bits & 0x7FFFFF) == 0 || binade.limit == 0) return write_bits<Narrow, 23, 8>(out, bits);
    constexpr double UNSURE = 1e-6;  // `scaled` is below 2^28 and off by at most 2^-24
    const double scaled = __builtin_fabs(static_cast<double>(value)) * binade.scale;
    const auto tens = static_cast<std::int32_t>(scaled * 0.1 + 0.5) * 10;
    const auto ones = static_cast<std::int32_t>(scaled + 0.5);
    const double from_tens = __builtin_fabs(scaled - tens);
    const double from_ones = __builtin_fabs(scaled - ones);
    if ((__builtin_fabs(from_tens - binade.half_gap) < UNSURE) | (from_ones > 0.5 - UNSURE))
        return write_bits<Narrow, 23, 8>(out, bits);
    const auto digits = static_cast<std::uint32_t>(from_tens < binade.half_gap ? tens : ones);
    const bool longer = digits >= binade.limit;
    *out = '-';
    return lay_out<Narrow>(out + (bits >> 31), std::uint64_t{digits} * binade.factor[longer], binade.exponent + longer);
}

inline char* write_double(char* out, double value) {
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return write_bits<Double, 52, 11>(out, bits);
}

inline char* write_float16(char* out, std::uint16_t bits) { return write_bits<Narrow, 10, 5>(out, bits); }
inline char* write_bfloat16(char* out, std::uint16_t bits) { return write_bits<Narrow, 7, 8>(out, bits); }

}  // namespace fastserve
