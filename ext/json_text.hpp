// JSON text: spaces, strings, numbers' grammar, and stepping over whole values. No Python, no recursion.
//
// Thread: any; everything here works on the caller's own `Text`.
// Memory: borrows the bytes; only `Levels` takes heap, one bit per open bracket that was really read.
//
// Invariant that all readers lean on: `*text.end` is readable and is '\0' (a `bytes` object has it), and '\0' is part of no
// JSON token. So a single character needs no bounds check; only loads of eight do.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace fastserve {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "eight digits at a time are read as a little-endian word");

#define FASTSERVE_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define FASTSERVE_HOT __attribute__((always_inline)) inline
#define FASTSERVE_COLD __attribute__((noinline, cold))

enum class Fault : int {
    none,
    syntax,          // not JSON; `reason` says why
    type,            // valid so far, but no value of the wanted kind
    range,           // an integer that its type does not hold
    list_length,     // `got` items where the first list of this level had `wanted`
    depth,           // more levels than allowed
    not_object,      // a row that is no object, or is a b64 object
    unknown_key,     // a row's key that is no input
    duplicate_key,   // a row's key for the second time
    missing_key,     // a row ends without all keys
    memory,
};

// One text and the first thing that is wrong with it.
struct Text {
    const char* at = nullptr;    // next byte to read; borrowed
    const char* end = nullptr;   // one past the last byte; *end == '\0'
    Fault fault = Fault::none;
    const char* reason = "";     // static text, for Fault::syntax
    const char* bad = nullptr;   // where the fault is
    int64_t wanted = 0;
    int64_t got = 0;
    bool finite = false;         // NaN and the infinities are no JSON here
    bool quoted_floats = false;  // "NaN", "Infinity" and "-Infinity" in quotes are floats too

    // Always nullptr, so that a reader can `return text.fail(...)`.
    FASTSERVE_COLD const char* fail(Fault which, const char* where, const char* why = "") {
        fault = which;
        bad = where;
        reason = why;
        return nullptr;
    }
    FASTSERVE_COLD const char* syntax(const char* where, const char* why) {
        return fail(Fault::syntax, where, where == end ? "the text ends too early" : why);
    }
};

FASTSERVE_HOT bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// ---- words of eight bytes -------------------------------------------------------------------------------------------------

constexpr uint64_t repeat(uint8_t byte) { return 0x0101010101010101ULL * byte; }

// The eight bytes at `p`, those behind the end as zeros.
FASTSERVE_HOT uint64_t load_eight(const char* p, const char* end) {
    uint64_t word = 0;
    if (FASTSERVE_UNLIKELY(end - p < 8)) {
        std::memcpy(&word, p, static_cast<size_t>(end - p));
    } else {
        std::memcpy(&word, p, 8);
    }
    return word;
}

// Eight bytes that are known to be there.
FASTSERVE_HOT uint64_t load_eight(const char* p) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    return word;
}

// Of the bytes `word ^ "00000000"`, the high bits of those that are no digits; right up to the first of them.
FASTSERVE_HOT uint64_t others_than_digits(uint64_t word) {
    // A byte above 9 sets its high bit; a carry comes from such a byte only and so never lands below the first of them.
    return ((word + repeat(0x76)) | word) & repeat(0x80);
}

// How many bytes are digits before the first that is not.
FASTSERVE_HOT int leading_digits(uint64_t word) {
    const uint64_t others = others_than_digits(word);
    return others == 0 ? 8 : __builtin_ctzll(others) >> 3;
}

// Eight digits (values, not characters), the first in the lowest byte, as a number.
FASTSERVE_HOT uint64_t join_eight(uint64_t digits) {
    constexpr uint64_t kPairs = 0x000000FF000000FFULL;
    digits = digits * 10 + (digits >> 8);
    const uint64_t high = (digits & kPairs) * (100 + (1000000ULL << 32));
    const uint64_t low = ((digits >> 16) & kPairs) * (1 + (10000ULL << 32));
    return static_cast<uint32_t>((high + low) >> 32);
}

// ---- spaces ---------------------------------------------------------------------------------------------------------------

FASTSERVE_HOT bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

__attribute__((noinline)) inline const char* skip_long_space(const char* p, const char* end) {
    for (;;) {
        while (end - p >= 8 && load_eight(p, end) == repeat(' ')) p += 8;
        if (!is_space(*p)) return p;
        ++p;
    }
}

FASTSERVE_HOT const char* skip_space(const char* p, const char* end) {
    if (static_cast<unsigned char>(*p) > ' ') return p;
    if (*p == ' ' && static_cast<unsigned char>(p[1]) > ' ') return p + 1;
    return skip_long_space(p, end);
}

// ---- strings --------------------------------------------------------------------------------------------------------------

// The first byte at or after `p` that ends a run of plain characters: a quote, a backslash, a control character (or the end).
inline const char* find_special(const char* p, const char* end) {
    while (end - p >= 8) {
        const uint64_t word = load_eight(p, end);
        const uint64_t quote = word ^ repeat('"');
        const uint64_t slash = word ^ repeat('\\');
        // Each term is exact for its lowest hit, borrows run upwards only: so the lowest of all is exact.
        const uint64_t hits = ((quote - repeat(1)) & ~quote) | ((slash - repeat(1)) & ~slash) | ((word - repeat(0x20)) & ~word);
        if ((hits & repeat(0x80)) != 0) return p + (__builtin_ctzll(hits & repeat(0x80)) >> 3);
        p += 8;
    }
    while (*p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20) ++p;
    return p;
}

inline int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Four hex digits; -1: one of them is none. Stops at the first bad one, so it reads no further than the sentinel.
inline int hex_unit(const char* p) {
    int unit = 0;
    for (int i = 0; i < 4; ++i) {
        const int digit = hex_value(p[i]);
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

inline bool is_high_surrogate(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
inline bool is_low_surrogate(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

// Over `\uXXXX` (both halves of a pair); `p` at the backslash.
inline const char* skip_unicode_escape(Text& text, const char* p) {
    const int unit = hex_unit(p + 2);
    if (unit < 0) return text.syntax(p, "\\u needs four hex digits");
    if (is_low_surrogate(unit)) return text.syntax(p, "a lone surrogate in a string");
    if (!is_high_surrogate(unit)) return p + 6;
    if (p[6] != '\\' || p[7] != 'u' || !is_low_surrogate(hex_unit(p + 8))) return text.syntax(p, "a lone surrogate in a string");
    return p + 12;
}

inline const char* skip_escape(Text& text, const char* p) {
    switch (p[1]) {
        case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': return p + 2;
        case 'u': return skip_unicode_escape(text, p);
        default: return text.syntax(p + 1, "unknown escape in a string");
    }
}

// Over a string; `p` at its opening quote.
inline const char* skip_string(Text& text, const char* p) {
    ++p;
    for (;;) {
        p = find_special(p, text.end);
        if (*p == '"') return p + 1;
        if (*p != '\\') return text.syntax(p, "a control character in a string");
        p = skip_escape(text, p);
        if (p == nullptr) return nullptr;
    }
}

// ---- numbers --------------------------------------------------------------------------------------------------------------

constexpr uint64_t kPowersOfTen[20] = {1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL,
    1000000000ULL, 10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL,
    1000000000000000ULL, 10000000000000000ULL, 100000000000000000ULL, 1000000000000000000ULL, 10000000000000000000ULL};

// A number token: digits * 10^exponent.
struct Decimal {
    uint64_t digits = 0;
    int64_t exponent = 0;
    bool negative = false;
    bool fits = true;       // every digit is in `digits`
    bool integer = true;    // neither a fraction nor an exponent in the text
};

// Over digits, eight at a time; with kValue they are also joined to `out.digits`.
template <bool kValue>
FASTSERVE_HOT const char* take_digits(const char* p, const char* end, Decimal& out) {
    for (;;) {
        const uint64_t word = load_eight(p, end) ^ repeat('0');
        const int count = leading_digits(word);
        if (kValue && count > 0) {
            // Below 10^(19-count) the result stays below 10^19 and so within 64 bits.
            if (out.digits < kPowersOfTen[19 - count]) {
                out.digits = out.digits * kPowersOfTen[count] + join_eight(word << (64 - 8 * count));
            } else {
                out.fits = false;
            }
        }
        p += count;
        if (count < 8) return p;
    }
}

// Over `e-12`; `p` at the e. `power` saturates far beyond what any text's own digits can make up for.
inline const char* take_exponent(Text& text, const char* p, int64_t& power) {
    constexpr int64_t kCap = int64_t{1} << 56;
    ++p;
    const bool negative = *p == '-';
    if (*p == '-' || *p == '+') ++p;
    if (!is_digit(*p)) return text.syntax(p, "an exponent without digits");
    for (power = 0; is_digit(*p); ++p) {
        if (power < kCap) power = power * 10 + (*p - '0');
    }
    if (negative) power = -power;
    return p;
}

// Whether the token is past the largest double. Integer digits and exponent together tell for all but odd texts.
FASTSERVE_COLD inline bool is_too_big(const char* start, const char* end, Text& text) {
    double value = 0;
    if (std::from_chars(start, end, value).ec != std::errc::result_out_of_range) return false;
    // Out of range is also what a value too small is told: such a token is below one.
    Decimal scale;
    const char* p = start + (*start == '-');
    int64_t first = 0;                                   // power of ten just above the first digit that is not zero
    const char* digit = p;
    while (*digit == '0' || *digit == '.') ++digit;
    const char* point = take_digits<false>(p, end, scale);
    first = digit <= point ? point - digit : point + 1 - digit;
    const char* power_at = *point == '.' ? take_digits<false>(point + 1, end, scale) : point;
    int64_t power = 0;
    if (power_at < end) take_exponent(text, power_at, power);
    return first + power > 0;
}

// Over one number, its grammar checked; `p` at its first character, `digit` at its first digit ('-' may stand between).
// Numbers past the range of a double are no JSON here, whatever they are read as.
template <bool kValue>
FASTSERVE_HOT const char* scan_number(Text& text, const char* p, const char* digit, Decimal& out) {
    const char* const start = p;
    out.negative = p != digit;
    if (digit[1] == '.') {                                // by far the most common: one digit before the point
        out.digits = static_cast<uint64_t>(*digit - '0');
        p = digit + 1;
    } else if (*digit == '0') {
        p = digit + 1;
        if (FASTSERVE_UNLIKELY(is_digit(*p))) return text.syntax(digit, "a number that starts with 0");
    } else {
        p = take_digits<kValue>(digit, text.end, out);
    }
    int64_t magnitude = p - digit;
    if (*p == '.') {
        const char* const fraction = p + 1;
        p = take_digits<kValue>(fraction, text.end, out);
        if (FASTSERVE_UNLIKELY(p == fraction)) return text.syntax(p, "a fraction without digits");
        out.exponent = fraction - p;
        out.integer = false;
    }
    if ((*p | 0x20) == 'e') {
        int64_t power = 0;
        p = take_exponent(text, p, power);
        if (FASTSERVE_UNLIKELY(p == nullptr)) return nullptr;
        out.exponent += power;
        out.integer = false;
        magnitude += power;
    }
    if (FASTSERVE_UNLIKELY(magnitude > 300) && is_too_big(start, p, text)) {
        return text.syntax(start, "a number too large for a double");
    }
    return p;
}

// One past `NaN`, `Infinity` or `Inf`, or nullptr (and no fault set): `p` at the letter.
inline const char* match_nonfinite(const char* p) {
    if (std::strncmp(p, "NaN", 3) == 0) return p + 3;
    if (std::strncmp(p, "Inf", 3) != 0) return nullptr;
    return std::strncmp(p + 3, "inity", 5) == 0 ? p + 8 : p + 3;
}

// Over any number token, `-Infinity` and its like included.
inline const char* skip_number(Text& text, const char* p) {
    const char* const digit = p + (*p == '-');
    if (is_digit(*digit)) {
        Decimal ignored;
        return scan_number<false>(text, p, digit, ignored);
    }
    const char* const after = *digit == 'N' && digit != p ? nullptr : match_nonfinite(digit);
    if (after == nullptr) return text.syntax(p, "not a JSON value");
    return text.finite ? text.syntax(p, "NaN and Infinity are refused by this server (non_finite = \"error\")") : after;
}

// The length of the byte order mark at the start of a text, if there is one.
inline int mark_bytes(const char* p) { return std::strncmp(p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; }

inline const char* skip_literal(Text& text, const char* p, const char* word, size_t size) {
    return std::strncmp(p, word, size) == 0 ? p + size : text.syntax(p, "not a JSON value");
}

// Over a string, number, true, false or null.
inline const char* skip_scalar(Text& text, const char* p) {
    switch (*p) {
        case '"': return skip_string(text, p);
        case 't': return skip_literal(text, p, "true", 4);
        case 'f': return skip_literal(text, p, "false", 5);
        case 'n': return skip_literal(text, p, "null", 4);
        default: return skip_number(text, p);
    }
}

// ---- whole values ---------------------------------------------------------------------------------------------------------

// The open brackets: one bit each, set for an object. The first 512 levels need no heap.
class Levels {
  public:
    Levels() = default;
    Levels(const Levels&) = delete;
    Levels& operator=(const Levels&) = delete;
    ~Levels() {
        if (words_ != inline_) std::free(words_);
    }
    bool empty() const { return depth_ == 0; }
    bool top_is_object() const { return ((words_[(depth_ - 1) >> 6] >> ((depth_ - 1) & 63)) & 1) != 0; }
    void pop() { --depth_; }
    bool push(bool object) {
        if (FASTSERVE_UNLIKELY(depth_ == capacity_ * 64) && !grow()) return false;
        const uint64_t bit = uint64_t{1} << (depth_ & 63);
        uint64_t& word = words_[depth_ >> 6];
        word = object ? word | bit : word & ~bit;
        ++depth_;
        return true;
    }

  private:
    FASTSERVE_COLD bool grow() {
        void* const wider = std::realloc(words_ == inline_ ? nullptr : words_, capacity_ * 2 * sizeof(uint64_t));
        if (wider == nullptr) return false;
        if (words_ == inline_) std::memcpy(wider, inline_, sizeof(inline_));
        words_ = static_cast<uint64_t*>(wider);
        capacity_ *= 2;
        return true;
    }

    uint64_t inline_[8] = {};
    uint64_t* words_ = inline_;   // inline_, or owned heap
    size_t capacity_ = 8;         // in words
    size_t depth_ = 0;
};

// Over a key and its colon, to the value; `p` where the key must stand.
inline const char* skip_key(Text& text, const char* p) {
    if (*p != '"') return text.syntax(p, "expected a key in quotes");
    p = skip_string(text, p);
    if (p == nullptr) return nullptr;
    p = skip_space(p, text.end);
    if (*p != ':') return text.syntax(p, "expected ':' after a key");
    return skip_space(p + 1, text.end);
}

// From behind a value to the next one of the same or an outer container; `levels` empty after it: nothing is left.
inline const char* skip_to_next(Text& text, const char* p, Levels& levels) {
    while (!levels.empty()) {
        p = skip_space(p, text.end);
        const bool object = levels.top_is_object();
        if (*p == ',') {
            p = skip_space(p + 1, text.end);
            return object ? skip_key(text, p) : p;
        }
        if (*p != (object ? '}' : ']')) return text.syntax(p, object ? "expected ',' or '}'" : "expected ',' or ']'");
        levels.pop();
        ++p;
    }
    return p;
}

// Over the bracket at `p`, to its first value; for an empty container behind it, to the next value.
inline const char* skip_open(Text& text, const char* p, Levels& levels) {
    const bool object = *p == '{';
    p = skip_space(p + 1, text.end);
    if (*p == (object ? '}' : ']')) return skip_to_next(text, p + 1, levels);
    if (!levels.push(object)) return text.fail(Fault::memory, p);
    return object ? skip_key(text, p) : p;
}

// One past the value at `p`, its grammar checked in full; any depth. nullptr: see `text.fault`.
inline const char* skip_value(Text& text, const char* p) {
    Levels levels;
    do {
        if (*p == '{' || *p == '[') {
            p = skip_open(text, p, levels);
        } else {
            p = skip_scalar(text, p);
            if (p != nullptr) p = skip_to_next(text, p, levels);
        }
    } while (p != nullptr && !levels.empty());
    return p;
}

}  // namespace fastserve
