// Tensors as nested JSON lists: numbers without Python objects, strings from Python's own UTF-8.
//
// Numbers: pure functions without the GIL, into room that was reserved before. Strings and the buffer need the GIL.
// Every size is an upper bound made by checked arithmetic; nothing is written behind what was reserved.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "float_text.hpp"

namespace fastserve {

// ---- sizes ----------------------------------------------------------------------------------------------------------

// A sum of products that remembers when it did not fit.
struct Size {
    std::size_t bytes = 0;
    bool fits = true;

    void add(std::size_t more) { fits &= !__builtin_add_overflow(bytes, more, &bytes); }

    void add(std::size_t count, std::size_t each) {
        std::size_t product = 0;
        fits &= !__builtin_mul_overflow(count, each, &product);
        add(product);
    }

    bool good() const { return fits && bytes <= static_cast<std::size_t>(PY_SSIZE_T_MAX) / 2; }
};

// A bytes object in the making: at first in `start_room`, then in a bytes object that grows. All methods need the GIL.
class Text {
public:
    char* at = start_room;  // next character to write; borrowed from start_room or bytes

    Text() = default;
    Text(const Text&) = delete;
    Text& operator=(const Text&) = delete;
    ~Text() { Py_XDECREF(bytes); }

    // Make room for `size` more characters, and for what was pledged. False with MemoryError set.
    bool reserve(Size size) {
        size.add(pledged);
        size.add(SLACK_BYTES);
        if (size.good() && size.bytes <= static_cast<std::size_t>(end - at)) return true;
        return grow(size);
    }

    // From now on every `reserve` keeps this much besides what it is asked for.
    void pledge(std::size_t size) { pledged = size; }

    void write(const char* source, std::size_t size) {
        std::memcpy(at, source, size);
        at += size;
    }

    // The finished object; NULL with MemoryError set.
    PyObject* finish() {
        const Py_ssize_t size = at - start();
        if (bytes == nullptr) return PyBytes_FromStringAndSize(start_room, size);
        if (_PyBytes_Resize(&bytes, size) != 0) return nullptr;
        PyObject* finished = bytes;
        bytes = nullptr;
        return finished;
    }

private:
    static constexpr std::size_t START_BYTES = 2048;
    char start_room[START_BYTES];
    char* end = start_room + START_BYTES;
    PyObject* bytes = nullptr;  // owned
    std::size_t pledged = 0;

    char* start() { return bytes == nullptr ? start_room : PyBytes_AS_STRING(bytes); }

    bool grow(Size size) {
        const std::size_t used = static_cast<std::size_t>(at - start());
        size.add(used);
        size.add(bytes == nullptr ? 0 : used / 2);  // so that many small steps cost little
        if (!size.good()) {
            PyErr_NoMemory();
            return false;
        }
        if (bytes != nullptr) {
            if (_PyBytes_Resize(&bytes, static_cast<Py_ssize_t>(size.bytes)) != 0) {
                at = start_room;  // the object is gone; nothing may be written any more
                return false;
            }
        } else {
            bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size.bytes));
            if (bytes == nullptr) return false;
            std::memcpy(PyBytes_AS_STRING(bytes), start_room, used);
        }
        at = PyBytes_AS_STRING(bytes) + used;
        end = PyBytes_AS_STRING(bytes) + size.bytes;
        return true;
    }
};

// ---- numbers --------------------------------------------------------------------------------------------------------

// A number below 10^4 in the same way as `eight_digits`, in half the steps: most whole numbers are small.
inline std::uint32_t four_digits(std::uint32_t value) {
    const std::uint32_t hundreds = (value * 10486) >> 20;
    const std::uint32_t twos = hundreds | ((value - 100 * hundreds) << 16);
    const std::uint32_t tens = ((twos * 103) >> 10) & 0x000F000F;
    return tens | ((twos - 10 * tens) << 8);
}

// Write the digits, one a byte and the first in the lowest, without the zeros in front of them.
template <class Digits>
inline char* write_digits(char* out, Digits digits) {
    constexpr Digits LAST = Digits{1} << (8 * sizeof(Digits) - 8);  // the last digit stays, a 0 as well
    const int zeros = __builtin_ctzll(digits | LAST) / 8;
    const Digits text = (digits | static_cast<Digits>(EIGHT_ZEROS)) >> (8 * zeros);
    std::memcpy(out, &text, sizeof text);
    return out + sizeof text - zeros;
}

inline char* write_natural(char* out, std::uint64_t value) {
    if (value < 10000) return write_digits(out, four_digits(static_cast<std::uint32_t>(value)));
    if (value < 100000000) return write_digits(out, eight_digits(static_cast<std::uint32_t>(value)));
    out = write_natural(out, value / 100000000);
    const std::uint64_t text = in_ascii(eight_digits(static_cast<std::uint32_t>(value % 100000000)));
    std::memcpy(out, &text, sizeof text);
    return out + sizeof text;
}

template <class Int>
inline char* write_integer(char* out, Int value) {
    *out = '-';
    out += value < 0;
    const auto bits = static_cast<std::uint64_t>(value);
    return write_natural(out, value < 0 ? 0 - bits : bits);
}

inline char* write_truth(char* out, std::uint8_t value) {
    std::memcpy(out, value ? "true" : "false", value ? 4 : 5);
    return out + (value ? 4 : 5);
}

// The items of one innermost list, with commas. `count` > 0.
template <class Item, char* (*write_item)(char*, Item)>
char* write_items(char* out, const void* items, std::size_t count) {
    const char* source = static_cast<const char*>(items);
    for (std::size_t i = 0; i < count; ++i) {
        Item item;
        std::memcpy(&item, source + i * sizeof item, sizeof item);
        out = write_item(out, item);
        *out++ = ',';
    }
    return out - 1;
}

// How the numbers of one ONNX type are written. `kind` and `item_bytes` are those of the NumPy dtype that holds them.
struct Format {
    int onnx;
    char kind;
    std::size_t item_bytes;
    std::size_t text_bytes;  // at most, for one item
    char* (*write)(char* out, const void* items, std::size_t count);  // NULL for strings
};

constexpr int ONNX_STRING = 8;

inline const Format* format_of(int onnx) {
    static const Format FORMATS[] = {
        {1, 'f', 4, FLOAT_TEXT_BYTES, write_items<float, write_float>},
        {2, 'u', 1, 3, write_items<std::uint8_t, write_integer<std::uint8_t>>},
        {3, 'i', 1, 4, write_items<std::int8_t, write_integer<std::int8_t>>},
        {4, 'u', 2, 5, write_items<std::uint16_t, write_integer<std::uint16_t>>},
        {5, 'i', 2, 6, write_items<std::int16_t, write_integer<std::int16_t>>},
        {6, 'i', 4, 11, write_items<std::int32_t, write_integer<std::int32_t>>},
        {7, 'i', 8, 20, write_items<std::int64_t, write_integer<std::int64_t>>},
        {ONNX_STRING, 'O', sizeof(PyObject*), 0, nullptr},
        {9, 'b', 1, 5, write_items<std::uint8_t, write_truth>},
        {10, 'f', 2, FLOAT_TEXT_BYTES, write_items<std::uint16_t, write_float16>},
        {11, 'f', 8, DOUBLE_TEXT_BYTES, write_items<double, write_double>},
        {12, 'u', 4, 10, write_items<std::uint32_t, write_integer<std::uint32_t>>},
        {13, 'u', 8, 20, write_items<std::uint64_t, write_integer<std::uint64_t>>},
        {16, 'u', 2, FLOAT_TEXT_BYTES, write_items<std::uint16_t, write_bfloat16>},
    };
    for (const Format& format : FORMATS)
        if (format.onnx == onnx) return &format;
    return nullptr;
}

// ---- strings --------------------------------------------------------------------------------------------------------

// What a byte of UTF-8 takes in a JSON string: itself, a two character escape, or \u00XX.
inline std::size_t escaped_bytes(unsigned char c) {
    if (c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f') return 2;
    return c < 0x20 ? 6 : 1;
}

// A surrogate in "surrogatepass" UTF-8 (three bytes, ED A0..BF xx) has no UTF-8 of its own: it is written as \uDXXX.
inline bool is_surrogate(const char* text, const char* end) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text);
    return end - text >= 3 && bytes[0] == 0xED && bytes[1] >= 0xA0;
}

inline std::size_t escaped_size(const char* text, std::size_t size) {
    std::size_t escaped = 0;
    const char* end = text + size;
    for (; text != end; ++text) {
        escaped += escaped_bytes(static_cast<unsigned char>(*text));
        if (is_surrogate(text, end)) {
            escaped += 5;
            text += 2;
        }
    }
    return escaped;
}

inline char* write_unicode_escape(char* out, unsigned unit) {
    static const char HEX[] = "0123456789abcdef";
    *out++ = '\\';
    *out++ = 'u';
    for (int bits = 12; bits >= 0; bits -= 4) *out++ = HEX[(unit >> bits) & 15];
    return out;
}

inline char* write_escape(char* out, unsigned char c) {
    if (escaped_bytes(c) == 6) return write_unicode_escape(out, c);
    *out++ = '\\';
    switch (c) {
        case '\n': *out++ = 'n'; break;
        case '\r': *out++ = 'r'; break;
        case '\t': *out++ = 't'; break;
        case '\b': *out++ = 'b'; break;
        case '\f': *out++ = 'f'; break;
        default: *out++ = static_cast<char>(c);
    }
    return out;
}

inline char* write_escaped(char* out, const char* text, std::size_t size) {
    const char* end = text + size;
    for (; text != end; ++text) {
        if (is_surrogate(text, end)) {
            const unsigned unit = 0xD000u | (static_cast<unsigned char>(text[1]) & 0x3Fu) << 6
                                  | (static_cast<unsigned char>(text[2]) & 0x3Fu);
            out = write_unicode_escape(out, unit);
            text += 2;
        } else if (escaped_bytes(static_cast<unsigned char>(*text)) != 1) {
            out = write_escape(out, static_cast<unsigned char>(*text));
        } else {
            *out++ = *text;
        }
    }
    return out;
}

// Standard base64 with padding (RFC 4648, section 4).
inline char* write_base64(char* out, const char* source, std::size_t size) {
    static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto* from = reinterpret_cast<const unsigned char*>(source);
    for (; size >= 3; size -= 3, from += 3) {
        const unsigned group = from[0] << 16 | from[1] << 8 | from[2];
        for (int bits = 18; bits >= 0; bits -= 6) *out++ = ALPHABET[(group >> bits) & 63];
    }
    if (size > 0) {
        const unsigned group = from[0] << 16 | (size == 2 ? from[1] << 8 : 0);
        *out++ = ALPHABET[group >> 18];
        *out++ = ALPHABET[(group >> 12) & 63];
        *out++ = size == 2 ? ALPHABET[(group >> 6) & 63] : '=';
        *out++ = '=';
    }
    return out;
}

inline bool write_string_bytes(Text& text, const char* utf8, std::size_t size, bool b64) {
    Size needed;
    needed.add(sizeof "{\"b64\":\"\"}");
    const std::size_t escaped = b64 ? 0 : escaped_size(utf8, size);
    needed.add(b64 ? size / 3 + 1 : 1, b64 ? 4 : escaped);
    if (!text.reserve(needed)) return false;
    if (b64) {
        text.write("{\"b64\":\"", 8);
        text.at = write_base64(text.at, utf8, size);
        text.write("\"}", 2);
        return true;
    }
    *text.at++ = '"';
    if (escaped == size)
        text.write(utf8, size);
    else
        text.at = write_escaped(text.at, utf8, size);
    *text.at++ = '"';
    return true;
}

inline bool write_string(Text& text, PyObject* item, bool b64);

// A str with lone surrogates has no UTF-8. As text: escapes. As bytes: those that "surrogateescape" hides in it, if it
// does.
inline bool write_surrogates(Text& text, PyObject* item, bool b64) {
    PyErr_Clear();
    PyObject* encoded = b64 ? PyUnicode_AsEncodedString(item, "utf-8", "surrogateescape") : nullptr;
    if (encoded == nullptr) {
        PyErr_Clear();
        encoded = PyUnicode_AsEncodedString(item, "utf-8", "surrogatepass");
    }
    if (encoded == nullptr) return false;
    const bool done =
        write_string_bytes(text, PyBytes_AS_STRING(encoded), static_cast<std::size_t>(PyBytes_GET_SIZE(encoded)), b64);
    Py_DECREF(encoded);
    return done;
}

// bytes stand for the text that they encode; what is no UTF-8 is replaced, unless it is written as base64.
inline bool write_bytes_item(Text& text, PyObject* item, bool b64) {
    const auto size = static_cast<std::size_t>(PyBytes_GET_SIZE(item));
    if (b64) return write_string_bytes(text, PyBytes_AS_STRING(item), size, true);
    PyObject* decoded = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item), "replace");
    if (decoded == nullptr) return false;
    const bool done = write_string(text, decoded, false);
    Py_DECREF(decoded);
    return done;
}

// One element of a string tensor (borrowed). False with an exception set.
inline bool write_string(Text& text, PyObject* item, bool b64) {
    if (item != nullptr && PyUnicode_Check(item)) {
        Py_ssize_t size = 0;
        const char* utf8 = PyUnicode_AsUTF8AndSize(item, &size);
        if (utf8 != nullptr) return write_string_bytes(text, utf8, static_cast<std::size_t>(size), b64);
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return false;
        return write_surrogates(text, item, b64);
    }
    if (item != nullptr && PyBytes_Check(item)) return write_bytes_item(text, item, b64);
    PyErr_Format(PyExc_TypeError, "expected str in a string tensor, got %s", item ? Py_TYPE(item)->tp_name : "nothing");
    return false;
}

// ---- nesting --------------------------------------------------------------------------------------------------------

constexpr int MAX_RANK = 64;  // NumPy's own limit

// The lists of a shape. `leaves` lists of `leaf_items` items, `depth` lists around each; a 0 ends the nesting: [2, 0]
// is [[],[]] and [0, 2] is []. A scalar has depth -1.
struct Nesting {
    const Py_ssize_t* dims = nullptr;
    int depth = -1;
    std::size_t leaf_items = 1;

    Nesting() = default;

    Nesting(const Py_ssize_t* shape, int rank) : dims(shape) {
        if (rank == 0) return;
        depth = 0;
        while (depth < rank - 1 && shape[depth] != 0) ++depth;
        leaf_items = static_cast<std::size_t>(shape[depth]);
    }

    // At most how many characters this takes with items of `text_bytes`.
    Size bound(std::size_t text_bytes) const {
        Size size;
        std::size_t lists = 1;
        for (int level = 0; level <= depth; ++level) {
            size.add(lists, 3);  // two brackets and a comma
            const std::size_t inner = level < depth ? static_cast<std::size_t>(dims[level]) : 1;
            size.fits &= !__builtin_mul_overflow(lists, inner, &lists);
        }
        std::size_t items = 0;
        size.fits &= !__builtin_mul_overflow(lists, leaf_items, &items);
        size.add(items, text_bytes + 1);
        return size;
    }

    // Write brackets and commas at `at`, and what `leaf(at)` answers for each innermost list that is not empty.
    // Iterative.
    template <class Leaf>
    bool write(char*& at, Leaf leaf) const {
        if (depth < 0) return leaf();
        Py_ssize_t place[MAX_RANK] = {};
        int opened = depth;
        while (true) {
            for (; opened > 0; --opened) *at++ = '[';
            *at++ = '[';
            if (leaf_items > 0 && !leaf()) return false;
            *at++ = ']';
            int level = depth - 1;
            while (level >= 0 && ++place[level] == dims[level]) {
                place[level--] = 0;
                *at++ = ']';
            }
            if (level < 0) return true;
            opened = depth - 1 - level;
            *at++ = ',';
        }
    }
};

// One tensor to write, or one column of which row after row is written.
struct Column {
    const Format* format = nullptr;
    const char* items = nullptr;  // next to write; borrowed from the array
    Nesting nesting;
    bool b64 = false;
    const char* key = "";  // with its quotes and colon; borrowed
    std::size_t key_bytes = 0;

    Size bound() const {
        Size size = nesting.bound(format->text_bytes);
        size.add(key_bytes + 1);
        return size;
    }

    // Into room that was reserved, and brackets of strings into what was pledged; touches Python only for strings.
    // False with an exception set.
    bool write(Text& text) {
        if (format->write == nullptr) return nesting.write(text.at, [&] { return write_strings(text); });
        return nesting.write(text.at, [&] {
            text.at = format->write(text.at, items, nesting.leaf_items);
            items += nesting.leaf_items * format->item_bytes;
            return true;
        });
    }

private:
    bool write_strings(Text& text) {
        const auto* strings = reinterpret_cast<PyObject* const*>(items);
        for (std::size_t i = 0; i < nesting.leaf_items; ++i) {
            if (i > 0) *text.at++ = ',';
            if (!write_string(text, strings[i], b64)) return false;
        }
        items += nesting.leaf_items * sizeof(PyObject*);
        return true;
    }
};

// {"a":...,"b":...}: one value of each column. Into what was reserved or pledged; touches Python only for strings.
// False with an exception set.
inline bool write_object(Text& text, std::vector<Column>& columns) {
    char before = '{';
    if (columns.empty()) *text.at++ = before;
    for (Column& column : columns) {
        *text.at++ = before;
        text.write(column.key, column.key_bytes);
        if (!column.write(text)) return false;
        before = ',';
    }
    *text.at++ = '}';
    return true;
}

}  // namespace fastserve
