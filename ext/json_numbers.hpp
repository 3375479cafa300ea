// One JSON value at the cursor into one element of a tensor: exact integers, correctly rounded floats. No Python.
//
// Thread: any. Memory: none; reads the text, writes one element.
//
// Every reader is `const char* read(Text&, const char* p, T* out)`: one past the token, or nullptr with the fault set.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "json_text.hpp"

namespace fastserve {

static_assert(std::numeric_limits<double>::is_iec559 && std::numeric_limits<float>::is_iec559, "IEEE 754 floats");

// Bits of a 16-bit float; its own type, so that uint16 elements are another one.
template <int kExponentBits, int kFractionBits>
struct Small {
    uint16_t bits;
};
using Half = Small<5, 10>;
using BFloat = Small<8, 7>;

inline uint64_t bits_of(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

// ---- what is no plain number ----------------------------------------------------------------------------------------------

// The fault of a value that cannot be read as the element wanted; broken JSON is said to be that first.
FASTSERVE_COLD inline const char* wrong_type(Text& text, const char* p) {
    const bool container = *p == '[' || *p == '{';
    const bool finite = text.finite;
    text.finite = false;            // a token of another type is that first, whatever its value
    const bool token = container || skip_scalar(text, p) != nullptr;
    text.finite = finite;
    return token ? text.fail(Fault::type, p) : nullptr;
}

// `NaN`, `Infinity`, `Inf`, the last two also negative; where the text allows it, in quotes as well.
FASTSERVE_COLD inline const char* read_nonfinite(Text& text, const char* p, double& out) {
    const bool quoted = *p == '"' && text.quoted_floats;
    const bool negative = p[quoted] == '-';
    const char* const letter = p + quoted + negative;
    const char* after = negative && *letter == 'N' ? nullptr : match_nonfinite(letter);
    if (quoted && after != nullptr) after = *after == '"' ? after + 1 : nullptr;
    if (after == nullptr) return wrong_type(text, p);
    out = *letter == 'N' ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    if (negative) out = -out;
    return after;
}

// ---- floats ---------------------------------------------------------------------------------------------------------------

constexpr double kExactPowers[23] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// Whether `digits` fits a signed word and the power of ten is an exact double: one rounding for each of the two conversions.
FASTSERVE_HOT bool is_short(const Decimal& decimal) {
    return decimal.fits && decimal.digits <= (uint64_t{1} << 62) && static_cast<uint64_t>(decimal.exponent + 22) <= 44;
}

// Within 1 ulp of the decimal's value; correctly rounded where `digits` is at most 2^53. Only for what is_short().
FASTSERVE_HOT double quick_double(const Decimal& decimal) {
    const double digits = static_cast<double>(static_cast<int64_t>(decimal.digits));
    const double value = decimal.exponent < 0 ? digits / kExactPowers[-decimal.exponent] : digits * kExactPowers[decimal.exponent];
    // Signs of real data are random: no branch.
    const uint64_t bits = bits_of(value) | static_cast<uint64_t>(decimal.negative) << 63;
    double signed_value;
    std::memcpy(&signed_value, &bits, sizeof(bits));
    return signed_value;
}

// The token's value by the library; tokens past the range become infinite, those below it zero.
template <class Float>
FASTSERVE_COLD Float slow_float(const char* start, const char* end, const Decimal& decimal) {
    Float value = 0;
    if (std::from_chars(start, end, value).ec == std::errc::result_out_of_range) {
        // scan_number() refused what no double holds, so the double tells on which side of the range it lies.
        double wide = 0;
        std::from_chars(start, end, wide);
        value = wide > 1 || wide < -1 ? std::numeric_limits<Float>::infinity() : Float{0};
        return decimal.negative ? -value : value;
    }
    return value;
}

// decimal -> double -> float rounds twice. It only shows where the double, give or take its own error, lies half way between
// two floats (its 29 low bits near 2^28), or where floats are subnormal: there the text is read again as a float. No short
// decimal but zero comes near 2^-126, where floats lose digits: 1e-22 is the smallest.
FASTSERVE_HOT bool quick(const Decimal& decimal, float* out) {
    constexpr uint64_t kHalfStep = uint64_t{1} << 28;
    constexpr uint64_t kMargin = 4;
    const double value = quick_double(decimal);
    *out = static_cast<float>(value);
    return (bits_of(value) & (2 * kHalfStep - 1)) - (kHalfStep - kMargin) > 2 * kMargin;
}

FASTSERVE_HOT bool quick(const Decimal& decimal, double* out) {
    *out = quick_double(decimal);
    return decimal.digits <= (uint64_t{1} << 53);
}

inline void convert(const char* start, const char* end, const Decimal& decimal, float* out) {
    if (!is_short(decimal) || !quick(decimal, out)) *out = slow_float<float>(start, end, decimal);
}

inline void convert(const char* start, const char* end, const Decimal& decimal, double* out) {
    if (!is_short(decimal) || !quick(decimal, out)) *out = slow_float<double>(start, end, decimal);
}

// ---- 16-bit floats --------------------------------------------------------------------------------------------------------

// Digits of a plain decimal text, one after the other, zeros without end behind the last.
class Digits {
  public:
    Digits(const char* start, const char* end) : at_(start), end_(end) {
        if (at_ < end_ && *at_ == '-') ++at_;
        for (const char* p = at_; p < end_; ++p) {
            if ((*p | 0x20) == 'e') end_ = p;
        }
        while (at_ < end_ && (*at_ == '0' || *at_ == '.')) ++at_;
        const char* point = start;
        while (point < end_ && *point != '.') ++point;
        scale = at_ <= point ? point - at_ : point + 1 - at_;
    }
    int next() {
        if (at_ < end_ && *at_ == '.') ++at_;
        return at_ < end_ ? *at_++ - '0' : 0;
    }
    bool done() const { return at_ >= end_; }

    int64_t scale = 0;   // the value is 0.ddd... * 10^scale, the exponent of the text left out

  private:
    const char* at_;
    const char* end_;
};

// Sign of |token| - |value|, exactly. `value` is a multiple of 2^-160 below 2^130.
FASTSERVE_COLD inline int compare_exactly(const char* start, const char* end, const Decimal& decimal, double value) {
    const double magnitude = value < 0 ? -value : value;
    if (is_short(decimal) && decimal.digits <= (uint64_t{1} << 53)) {
        // Whole numbers in small types lie half way often. A fused multiply-add rounds once: its sign is the difference's.
        const double digits = static_cast<double>(static_cast<int64_t>(decimal.digits));
        const double beyond = decimal.exponent < 0 ? -std::fma(magnitude, kExactPowers[-decimal.exponent], -digits)
                                                   : std::fma(digits, kExactPowers[decimal.exponent], -magnitude);
        return (beyond > 0) - (beyond < 0);
    }
    char exact[256];
    const auto written = std::to_chars(exact, exact + sizeof(exact), magnitude, std::chars_format::fixed, 160);
    Digits ours(start, end);
    Digits theirs(exact, written.ptr);
    int64_t fraction_digits = 0;
    for (const char* p = start; p < end && (*p | 0x20) != 'e'; ++p) {
        if (fraction_digits > 0 || *p == '.') ++fraction_digits;
    }
    if (fraction_digits > 0) --fraction_digits;                       // the point itself
    const int64_t scale = ours.scale + decimal.exponent + fraction_digits;
    if (scale != theirs.scale) return scale < theirs.scale ? -1 : 1;
    while (!ours.done() || !theirs.done()) {
        const int difference = ours.next() - theirs.next();
        if (difference != 0) return difference;
    }
    return 0;
}

// `value` as the token's double, correctly rounded, to 16 bits, half to even. Where the double stands exactly between two
// results the token itself decides: it may be a little off that middle.
template <int kExponentBits, int kFractionBits>
uint16_t to_small(const char* start, const char* end, const Decimal& decimal) {
    constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
    constexpr uint64_t kInfinity = ((uint64_t{1} << kExponentBits) - 1) << kFractionBits;
    double value = 0;
    convert(start, end, decimal, &value);
    const uint64_t bits = bits_of(value) & ~(uint64_t{1} << 63);
    const uint64_t sign = static_cast<uint64_t>(decimal.negative) << 15;
    int exponent = static_cast<int>(bits >> 52) - 1023 + kBias;       // biased, as in the result
    if (exponent < -kFractionBits) return static_cast<uint16_t>(sign);             // below half of the smallest
    if (exponent > 2 * kBias) return static_cast<uint16_t>(sign | kInfinity);
    uint64_t significand = (bits & ((uint64_t{1} << 52) - 1)) | (uint64_t{1} << 52);
    int dropped = 52 - kFractionBits;
    if (exponent < 1) {                                               // subnormal: the leading bit is written out
        dropped += 1 - exponent;
        exponent = 0;
    } else {
        significand &= ~(uint64_t{1} << 52);
    }
    const uint64_t kept = (static_cast<uint64_t>(exponent) << kFractionBits) + (significand >> dropped);
    const uint64_t rest = significand & ((uint64_t{1} << dropped) - 1);
    const uint64_t half = uint64_t{1} << (dropped - 1);
    bool up = rest > half;
    if (rest == half) {
        const int side = compare_exactly(start, end, decimal, value);
        up = side > 0 || (side == 0 && (kept & 1) != 0);
    }
    return static_cast<uint16_t>(sign | (kept + up));
}

// ---- readers --------------------------------------------------------------------------------------------------------------

template <int kExponentBits, int kFractionBits>
inline void convert(const char* start, const char* end, const Decimal& decimal, Small<kExponentBits, kFractionBits>* out) {
    out->bits = to_small<kExponentBits, kFractionBits>(start, end, decimal);
}

FASTSERVE_HOT void convert_nonfinite(double value, float* out) { *out = static_cast<float>(value); }
FASTSERVE_HOT void convert_nonfinite(double value, double* out) { *out = value; }
template <int kExponentBits, int kFractionBits>
FASTSERVE_HOT void convert_nonfinite(double value, Small<kExponentBits, kFractionBits>* out) {
    constexpr unsigned kInfinity = ((1u << kExponentBits) - 1) << kFractionBits;
    const unsigned sign = value < 0 ? 0x8000u : 0;
    const unsigned quiet = value != value ? 1u << (kFractionBits - 1) : 0;
    out->bits = static_cast<uint16_t>(sign | kInfinity | quiet);
}

// Any number token, NaN and Infinity among them.
template <class Float>
__attribute__((noinline)) const char* read_float(Text& text, const char* p, Float* out) {
    const char* const digit = p + (*p == '-');
    if (FASTSERVE_UNLIKELY(!is_digit(*digit))) {
        double value = 0;
        p = read_nonfinite(text, p, value);
        if (p != nullptr) convert_nonfinite(value, out);
        return p;
    }
    Decimal decimal;
    const char* const after = scan_number<true>(text, p, digit, decimal);
    if (FASTSERVE_UNLIKELY(after == nullptr)) return nullptr;
    convert(p, after, decimal, out);
    return after;
}

// Integers of 20 digits or with an overlong text; also every fault that a token starting like an integer can have.
template <class Integer>
FASTSERVE_COLD const char* read_odd_integer(Text& text, const char* p, const char* digit, Integer* out) {
    Decimal decimal;
    const char* const after = scan_number<false>(text, p, digit, decimal);
    if (after == nullptr) return nullptr;
    if (!decimal.integer) return text.fail(Fault::type, p);
    uint64_t value = 0;
    const bool outside = std::from_chars(digit, after, value).ec == std::errc::result_out_of_range;
    if (outside || decimal.negative || value > uint64_t{std::numeric_limits<Integer>::max()}) return text.fail(Fault::range, p);
    *out = static_cast<Integer>(value);
    return after;
}

template <class Integer>
inline const char* read_integer(Text& text, const char* p, Integer* out) {
    using Limits = std::numeric_limits<Integer>;
    const char* const digit = p + (*p == '-');
    if (FASTSERVE_UNLIKELY(!is_digit(*digit))) return wrong_type(text, p);
    Decimal decimal;
    const char* const after = take_digits<true>(digit, text.end, decimal);
    const bool leading_zero = *digit == '0' && after != digit + 1;
    const bool fraction = *after == '.' || (*after | 0x20) == 'e';
    if (FASTSERVE_UNLIKELY(!decimal.fits || leading_zero || fraction)) return read_odd_integer(text, p, digit, out);
    const bool negative = p != digit;
    // The range is lopsided: one more below zero, and nothing below it for unsigned types.
    const uint64_t limit = negative ? uint64_t{0} - static_cast<uint64_t>(int64_t{Limits::min() < 0 ? int64_t(Limits::min()) : 0})
                                    : static_cast<uint64_t>(Limits::max());
    if (FASTSERVE_UNLIKELY(decimal.digits > limit)) return text.fail(Fault::range, p);
    *out = static_cast<Integer>(negative ? uint64_t{0} - decimal.digits : decimal.digits);
    return after;
}

FASTSERVE_HOT const char* read_bool(Text& text, const char* p, bool* out) {
    *out = *p == 't';
    if (std::strncmp(p, "true", 4) == 0) return p + 4;
    if (std::strncmp(p, "false", 5) == 0) return p + 5;
    return wrong_type(text, p);
}

template <class Element>
FASTSERVE_HOT const char* read_element(Text& text, const char* p, Element* out) {
    if constexpr (std::is_same_v<Element, bool>) {
        return read_bool(text, p, out);
    } else if constexpr (std::is_integral_v<Element>) {
        return read_integer(text, p, out);
    } else {
        return read_float(text, p, out);
    }
}

// ---- the common shapes ------------------------------------------------------------------------------------------------------
//
// Nearly all numbers are short, have no exponent, and a comma or bracket right behind them. Those are read here with few
// branches. The answer is one past the digits, or nullptr: another shape. Where neither comma nor bracket stands behind the
// digits, it may be another shape too (an exponent, a second point): then as well, the readers above take it from the start.

constexpr int kCommonBytes = 12;    // what is loaded from the start of a token on: a sign, a digit, a point and a word

// Up to 7 digits without a point.
FASTSERVE_HOT const char* scan_short_integer(const char* p, uint64_t& digits) {
    const uint64_t word = load_eight(p) ^ repeat('0');
    const uint64_t others = others_than_digits(word);
    if (FASTSERVE_UNLIKELY(others == 0 || (others & 0x80) != 0)) return nullptr;    // eight digits, or none
    const int64_t bits = __builtin_ctzll(others) - 7;                   // 8 for each digit
    if (FASTSERVE_UNLIKELY(*p == '0' && bits > 8)) return nullptr;
    digits = join_eight(word << (64 - bits));
    return p + (bits >> 3);
}

// One digit, a point, and more digits, as many as is_short() lets pass.
FASTSERVE_HOT const char* scan_short_fraction(const char* p, const char* end, Decimal& out) {
    const uint64_t first = static_cast<uint64_t>(*p) & 15;
    const char* const fraction = p + 2;
    const uint64_t word = load_eight(fraction) ^ repeat('0');
    const uint64_t others = others_than_digits(word);
    if (FASTSERVE_UNLIKELY((others & 0x80) != 0)) return nullptr;
    if (others != 0) {
        const int64_t bits = __builtin_ctzll(others) - 7;               // 8 for each digit behind the point, of which 1 to 7
        out.digits = join_eight((word << 8 | first) << (56 - bits));
        out.exponent = -(bits >> 3);
        return fraction + (bits >> 3);
    }
    out.digits = first * kPowersOfTen[8] + join_eight(word);
    p = take_digits<true>(fraction + 8, end, out);
    out.exponent = fraction - p;
    return is_short(out) ? p : nullptr;
}

// Over a minus. While `signs` is false none came, and the branch is predicted: the reading goes on without waiting for the
// character. The first minus is another shape; from then on signs are random and there is no branch.
FASTSERVE_HOT bool step_over_sign(const char*& p, bool& signs, bool& negative) {
    if (!signs) {
        signs = *p == '-';
        return !signs;
    }
    negative = *p == '-';
    p += negative;
    return true;
}

template <class Float>
FASTSERVE_HOT const char* read_common_float(const char* p, const char* end, bool& signs, Float* out) {
    if (FASTSERVE_UNLIKELY(end - p < kCommonBytes)) return nullptr;
    Decimal decimal;
    if (!step_over_sign(p, signs, decimal.negative)) return nullptr;
    if (FASTSERVE_UNLIKELY(!is_digit(*p))) return nullptr;
    p = p[1] == '.' ? scan_short_fraction(p, end, decimal) : scan_short_integer(p, decimal.digits);
    if (FASTSERVE_UNLIKELY(p == nullptr || !quick(decimal, out))) return nullptr;
    return p;
}

template <class Integer>
FASTSERVE_HOT const char* read_common_integer(const char* p, const char* end, bool& signs, Integer* out) {
    if (FASTSERVE_UNLIKELY(end - p < kCommonBytes)) return nullptr;
    bool negative = false;
    if (!step_over_sign(p, signs, negative)) return nullptr;
    uint64_t digits = 0;
    p = scan_short_integer(p, digits);
    if (FASTSERVE_UNLIKELY(p == nullptr)) return nullptr;
    const int64_t sign = -static_cast<int64_t>(negative);
    const int64_t value = (static_cast<int64_t>(digits) ^ sign) - sign;
    *out = static_cast<Integer>(value);
    return static_cast<int64_t>(*out) == value && !(std::is_unsigned_v<Integer> && value < 0) ? p : nullptr;
}

template <class Element>
FASTSERVE_HOT const char* read_common(const char* p, const char* end, bool& signs, Element* out) {
    if constexpr (std::is_same_v<Element, float> || std::is_same_v<Element, double>) {
        return read_common_float(p, end, signs, out);
    } else if constexpr (std::is_integral_v<Element> && !std::is_same_v<Element, bool>) {
        return read_common_integer(p, end, signs, out);
    } else {
        return nullptr;
    }
}

}  // namespace fastserve
