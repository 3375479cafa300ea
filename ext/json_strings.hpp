// Strings out of JSON text: escapes undone, base64 decoded, b64 objects recognised. No Python.
//
// Thread: any. Memory: results go to the caller's std::string, never larger than the text they come from.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "json_text.hpp"

namespace fastserve {

// ---- escapes --------------------------------------------------------------------------------------------------------------

inline void append_utf8(std::string& out, uint32_t code) {
    if (code < 0x80) {
        out.push_back(static_cast<char>(code));
        return;
    }
    const int tails = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr uint32_t kHeads[4] = {0, 0xC0, 0xE0, 0xF0};
    out.push_back(static_cast<char>(kHeads[tails] | (code >> (6 * tails))));
    for (int left = tails - 1; left >= 0; --left) out.push_back(static_cast<char>(0x80 | ((code >> (6 * left)) & 0x3F)));
}

// One escape, checked before by skip_string(); answers how many bytes of text it took.
inline int append_escape(std::string& out, const char* p) {
    constexpr const char* kNames = "bfnrt";
    constexpr const char* kValues = "\b\f\n\r\t";
    if (p[1] == 'u') {
        const int unit = hex_unit(p + 2);
        if (!is_high_surrogate(unit)) {
            append_utf8(out, static_cast<uint32_t>(unit));
            return 6;
        }
        const int low = hex_unit(p + 8);
        append_utf8(out, 0x10000 + (static_cast<uint32_t>(unit - 0xD800) << 10) + static_cast<uint32_t>(low - 0xDC00));
        return 12;
    }
    const char* const name = std::strchr(kNames, p[1]);
    out.push_back(name != nullptr ? kValues[name - kNames] : p[1]);
    return 2;
}

// The text between two quotes, escapes undone.
inline void unescape(const char* p, const char* end, std::string& out) {
    out.clear();
    while (p < end) {
        const char* slash = static_cast<const char*>(std::memchr(p, '\\', static_cast<size_t>(end - p)));
        if (slash == nullptr) slash = end;
        out.append(p, static_cast<size_t>(slash - p));
        p = slash < end ? slash + append_escape(out, slash) : end;
    }
}

// ---- base64 (RFC 4648 section 4) --------------------------------------------------------------------------------------------

enum class Base64 : int { ok, url_alphabet, bad_character, bad_length };

inline int sextet(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (is_digit(c)) return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

inline bool is_base64_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Padding may be left out; where it is there it must be right, and a point stands for it too. White space is passed over:
// encoders break lines. Unused low bits of the last character are not looked at.
inline Base64 decode_base64(const char* p, const char* end, std::string& out) {
    out.clear();
    out.reserve(static_cast<size_t>(end - p) / 4 * 3 + 3);
    uint32_t bits = 0;
    size_t size = 0;
    size_t padding = 0;
    for (; p < end; ++p) {
        const int value = sextet(*p);
        if (value < 0) {
            if (is_base64_space(*p)) continue;
            if (*p != '=' && *p != '.') return *p == '-' || *p == '_' ? Base64::url_alphabet : Base64::bad_character;
            ++padding;
            continue;
        }
        if (padding > 0) return Base64::bad_length;
        bits = (bits << 6) | static_cast<uint32_t>(value);
        // Of every four characters all but the first complete a byte.
        if (size % 4 != 0) out.push_back(static_cast<char>(bits >> (6 - size % 4 * 2)));
        ++size;
    }
    const bool whole = padding == 0 || (padding < 3 && (size + padding) % 4 == 0);
    return size % 4 != 1 && whole ? Base64::ok : Base64::bad_length;
}

// ---- b64 objects ------------------------------------------------------------------------------------------------------------

// A string's text: between its quotes.
struct Quoted {
    const char* begin = nullptr;
    const char* end = nullptr;
    bool has_escape() const { return std::memchr(begin, '\\', static_cast<size_t>(end - begin)) != nullptr; }
    bool is(const char* plain, size_t size) const {
        return static_cast<size_t>(end - begin) == size && std::memcmp(begin, plain, size) == 0;
    }
};

inline bool is_b64_key(const Quoted& key) {
    if (!key.has_escape()) return key.is("b64", 3);
    std::string plain;
    unescape(key.begin, key.end, plain);
    return plain == "b64";
}

// Over `{"b64": "..."}`; `p` at the brace. nullptr and Fault::type: an object of another kind; else its JSON is broken.
inline const char* read_b64_object(Text& text, const char* p, Quoted& value) {
    const char* const brace = p;
    p = skip_space(p + 1, text.end);
    if (*p != '"') return *p == '}' ? text.fail(Fault::type, brace) : text.syntax(p, "expected a key in quotes");
    Quoted key;
    key.begin = p + 1;
    p = skip_string(text, p);
    if (p == nullptr) return nullptr;
    key.end = p - 1;
    p = skip_space(p, text.end);
    if (*p != ':') return text.syntax(p, "expected ':' after a key");
    p = skip_space(p + 1, text.end);
    if (*p != '"' || !is_b64_key(key)) return text.fail(Fault::type, brace);
    value.begin = p + 1;
    p = skip_string(text, p);
    if (p == nullptr) return nullptr;
    value.end = p - 1;
    p = skip_space(p, text.end);
    if (*p == ',') return text.fail(Fault::type, brace);
    return *p == '}' ? p + 1 : text.syntax(p, "expected ',' or '}'");
}

}  // namespace fastserve
