// Feeds any bytes to the escapes and the base64 of ext/json_strings.hpp, beside plain readings of the same rules.
//
//   make fuzz TARGET=strings SECONDS=600    (tests/fuzz/README.md)

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "json_strings.hpp"

namespace {

using namespace fastserve;

const std::string kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

// As the comment above decode_base64() says it, bit by bit.
Base64 plainly_decoded(const std::string& text, std::string& out) {
    std::string digits, padding;
    for (const char c : text) {
        if (std::strchr(" \t\n\v\f\r", c) != nullptr && c != '\0') continue;
        if (c == '=' || c == '.') {
            padding.push_back(c);
        } else if (kAlphabet.find(c) == std::string::npos) {
            return c == '-' || c == '_' ? Base64::url_alphabet : Base64::bad_character;
        } else if (!padding.empty()) {
            return Base64::bad_length;
        } else {
            digits.push_back(c);
        }
    }
    std::string bits;
    for (const char c : digits) {
        const size_t value = kAlphabet.find(c);
        for (int bit = 5; bit >= 0; --bit) bits.push_back(static_cast<char>(value >> bit & 1));
    }
    for (size_t at = 0; at + 8 <= bits.size(); at += 8) {
        int byte = 0;
        for (size_t bit = 0; bit < 8; ++bit) byte = byte * 2 + bits[at + bit];
        out.push_back(static_cast<char>(byte));
    }
    if (digits.size() % 4 == 1) return Base64::bad_length;
    if (padding.empty()) return Base64::ok;
    return padding.size() < 3 && (digits.size() + padding.size()) % 4 == 0 ? Base64::ok : Base64::bad_length;
}

void check_base64(const char* bytes, size_t size) {
    std::string ours, plain;
    const Base64 answer = decode_base64(bytes, bytes + size, ours);
    require(answer == plainly_decoded(std::string(bytes, size), plain), "the same is refused");
    require(answer != Base64::ok || ours == plain, "the same bytes are decoded");
    require(ours.size() <= size, "base64 never grows");
}

// A string's text is UTF-8 if the text it stands in is; escapes never make it longer.
void check_string(const char* bytes, size_t size) {
    Text text;
    text.at = bytes;
    text.end = bytes + size;
    if (size == 0 || *bytes != '"') return;
    const char* const after = skip_string(text, bytes);
    require((after == nullptr) == (text.fault != Fault::none), "a fault is set exactly when nothing is answered");
    if (after == nullptr) return;
    require(after > bytes + 1 && after <= text.end && after[-1] == '"', "a string ends with its quote");
    std::string out;
    unescape(bytes + 1, after - 1, out);
    require(out.size() <= static_cast<size_t>(after - bytes) - 2, "escapes never grow");
    if (std::memchr(bytes + 1, '\\', static_cast<size_t>(after - bytes) - 2) == nullptr)
        require(out == std::string(bytes + 1, after - 1), "without escapes it is the text itself");
}

void check_object(const char* bytes, size_t size) {
    Text text;
    text.at = bytes;
    text.end = bytes + size;
    if (size == 0 || *bytes != '{') return;
    Quoted value;
    const char* const after = read_b64_object(text, bytes, value);
    require((after == nullptr) == (text.fault != Fault::none), "a fault is set exactly when nothing is answered");
    if (after == nullptr) return;
    require(value.begin > bytes && value.end < after && value.begin <= value.end, "the value lies in the object");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::unique_ptr<char[]> bytes(new char[size + 1]);
    if (size > 0) std::memcpy(bytes.get(), data, size);
    bytes[size] = '\0';
    check_base64(bytes.get(), size);
    check_string(bytes.get(), size);
    check_object(bytes.get(), size);
    return 0;
}
