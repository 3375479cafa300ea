// Nested JSON lists into one contiguous buffer, their shape found on the way; row objects into one buffer per key, rows of single
// values into one per column. No Python.
//
// Thread: any; made for running without the GIL.
// Memory: `Buffer` owns what was read so far. It grows with the elements that really came, and asks for more only in
// proportion to the text that is left; a shape that the text does not fill costs nothing.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "json_numbers.hpp"
#include "json_strings.hpp"
#include "json_text.hpp"

namespace fastserve {

constexpr int kMaxRank = 64;    // numpy's own limit

// One string element: its text in the body, made a Python string later.
struct StringSpan {
    const char* begin;
    uint64_t size : 62;
    uint64_t escaped : 1;
    uint64_t base64 : 1;
};

inline const char* read_element(Text& text, const char* p, StringSpan* out) {
    Quoted value;
    const bool object = *p == '{';
    if (object) {
        p = read_b64_object(text, p, value);
        if (p == nullptr) return nullptr;
    } else {
        if (*p != '"') return wrong_type(text, p);
        value.begin = p + 1;
        p = skip_string(text, p);
        if (p == nullptr) return nullptr;
        value.end = p - 1;
    }
    out->begin = value.begin;
    out->size = static_cast<uint64_t>(value.end - value.begin);
    out->escaped = value.has_escape();
    out->base64 = object;
    return p;
}

// Elements of one size, the first few without heap.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(heap_); }

    char* data() { return heap_ != nullptr ? heap_ : inline_; }
    size_t capacity_bytes() const { return heap_ != nullptr ? heap_bytes_ : sizeof(inline_); }

    // `bytes` at least; keeps what was written. False: no memory.
    bool grow(size_t bytes) {
        void* const wider = std::realloc(heap_, bytes);
        if (wider == nullptr) return false;
        if (heap_ == nullptr) std::memcpy(wider, inline_, sizeof(inline_));
        heap_ = static_cast<char*>(wider);
        heap_bytes_ = bytes;
        return true;
    }

    // The heap block, cut to `bytes`: the caller frees it.
    char* release(size_t bytes) {
        void* const cut = std::realloc(heap_, bytes > 0 ? bytes : 1);
        char* const block = cut != nullptr ? static_cast<char*>(cut) : heap_;
        heap_ = nullptr;
        return block;
    }

  private:
    alignas(16) char inline_[512];
    char* heap_ = nullptr;
    size_t heap_bytes_ = 0;
};

// One tensor, or one column of it per row: every read() appends a value of the same shape.
class TensorReader {
  public:
    Buffer buffer;
    int64_t items = 0;                 // elements in the buffer
    int rank = -1;                     // levels of lists around an element; -1: nothing was read yet
    int64_t lengths[kMaxRank];         // of the lists of each level, as the first of them had it; -1: not closed yet
    int64_t at[kMaxRank];              // where the reading stands: items done in the open list of each level
    int depth = 0;                     // open lists
    int max_rank = kMaxRank;
    int dtype = 0;                     // ONNX's number
    bool alone = true;                 // nobody else fills a buffer from the same text

    // One past the value at `p`; nullptr: see text.fault.
    const char* read(Text& text, const char* p) {
        depth = 0;
        switch (dtype) {
            case 1: return read_as<float>(text, p);
            case 2: return read_as<uint8_t>(text, p);
            case 3: return read_as<int8_t>(text, p);
            case 4: return read_as<uint16_t>(text, p);
            case 5: return read_as<int16_t>(text, p);
            case 6: return read_as<int32_t>(text, p);
            case 7: return read_as<int64_t>(text, p);
            case 8: return read_as<StringSpan>(text, p);
            case 9: return read_as<bool>(text, p);
            case 10: return read_as<Half>(text, p);
            case 11: return read_as<double>(text, p);
            case 12: return read_as<uint32_t>(text, p);
            case 13: return read_as<uint64_t>(text, p);
            case 16: return read_as<BFloat>(text, p);
            default: return text.fail(Fault::type, p);
        }
    }

    StringSpan* spans() { return reinterpret_cast<StringSpan*>(buffer.data()); }

  private:
    template <class Element>
    const char* read_as(Text& text, const char* p) {
        start_ = p;
        items_before_ = items;
        if (*p != '[') return read_scalar<Element>(text, p);
        do {
            p = *p == '[' ? open_list(text, p) : read_items<Element>(text, p);
            if (FASTSERVE_UNLIKELY(p == nullptr)) return nullptr;
        } while (depth > 0);
        return p;
    }

    // Over the bracket at `p`, to its first value; for an empty list to what follows.
    const char* open_list(Text& text, const char* p) {
        if (FASTSERVE_UNLIKELY(depth == rank)) return text.fail(Fault::type, p);
        if (rank < 0) {
            if (depth == max_rank) return text.fail(Fault::depth, p);
            lengths[depth] = -1;
        }
        at[depth++] = 0;
        p = skip_space(p + 1, text.end);
        if (FASTSERVE_UNLIKELY(*p == ']')) {
            if (rank < 0) rank = depth;
            return close_list(text, p);
        }
        return p;
    }

    // Over the bracket at `p` and those that follow, to the next value or, at depth 0, behind the last bracket.
    const char* close_list(Text& text, const char* p) {
        while (*p == ']') {
            int64_t& length = lengths[depth - 1];
            if (FASTSERVE_UNLIKELY(length != at[depth - 1])) {
                if (length >= 0) return wrong_length(text, p);
                length = at[depth - 1];
            }
            if (--depth == 0) return p + 1;
            ++at[depth - 1];
            p = skip_space(p + 1, text.end);
        }
        if (FASTSERVE_UNLIKELY(*p != ',')) return text.syntax(p, "expected ',' or ']'");
        return skip_space(p + 1, text.end);
    }

    // Over a value that stands in no list.
    template <class Element>
    const char* read_scalar(Text& text, const char* p) {
        if (FASTSERVE_UNLIKELY(rank > 0)) return wrong_type(text, p);
        if (!has_room<Element>() && !make_room(text, p, sizeof(Element))) return text.fail(Fault::memory, p);
        p = read_element(text, p, elements<Element>() + items);
        if (p == nullptr) return nullptr;
        ++items;
        rank = 0;
        return p;
    }

    // Over the element at `p` and those beside it, then as close_list().
    template <class Element>
    const char* read_items(Text& text, const char* p) {
        if (FASTSERVE_UNLIKELY(depth != rank) && rank >= 0) return wrong_type(text, p);
        const char* const end = text.end;
        Element* out = elements<Element>() + items;
        Element* limit = elements<Element>() + buffer.capacity_bytes() / sizeof(Element);
        int64_t before = items;         // elements ahead of the open list
        bool signs = signs_;
        for (;;) {
            if (FASTSERVE_UNLIKELY(out == limit)) {
                items = out - elements<Element>();
                if (!make_room(text, p, sizeof(Element))) return text.fail(Fault::memory, p);
                out = elements<Element>() + items;
                limit = elements<Element>() + buffer.capacity_bytes() / sizeof(Element);
            }
            const char* after = read_common(p, end, signs, out);
            if (after == nullptr || (*after != ',' && *after != ']')) {
                after = read_element(text, p, out);
                if (FASTSERVE_UNLIKELY(after == nullptr)) {
                    note_items(out - elements<Element>(), before);
                    return nullptr;
                }
                after = skip_space(after, end);
            }
            ++out;
            p = after;
            if (*p == ',') {
                p = skip_space(p + 1, end);
                continue;
            }
            const int64_t now = out - elements<Element>();
            const char* const next = next_list(p, end, now - before);
            if (next == nullptr) break;
            p = next;
            before = now;
        }
        signs_ = signs;
        note_items(out - elements<Element>(), before);
        return *p == ']' ? close_list(text, p) : text.syntax(p, "expected ',' or ']'");
    }

    // From the end of a list as long as the others, over `], [`, to the first value of the list beside it. nullptr: anything
    // else is there; nothing was changed.
    FASTSERVE_HOT const char* next_list(const char* p, const char* end, int64_t length) {
        if (depth < 2 || lengths[depth - 1] != length || p[0] != ']' || p[1] != ',') return nullptr;
        p = skip_space(p + 2, end);
        if (*p != '[') return nullptr;
        p = skip_space(p + 1, end);
        if (*p == ']') return nullptr;
        ++at[depth - 2];
        return p;
    }

    // What read_items() kept in registers.
    void note_items(int64_t now, int64_t before) {
        if (now > before) rank = depth;
        items = now;
        at[depth - 1] = now - before;
    }

    template <class Element>
    bool has_room() const { return (static_cast<size_t>(items) + 1) * sizeof(Element) <= buffer.capacity_bytes(); }

    template <class Element>
    Element* elements() { return reinterpret_cast<Element*>(buffer.data()); }

    FASTSERVE_COLD const char* wrong_length(Text& text, const char* p) {
        text.wanted = lengths[depth - 1];
        text.got = at[depth - 1];
        return text.fail(Fault::list_length, p);
    }

    // Room for as many elements as the text will hold if it goes on as it began, and for twice those that are here at least;
    // but never for more than it can hold: an element needs a byte and another one between it and the next.
    FASTSERVE_COLD bool make_room(const Text& text, const char* p, size_t element_bytes) {
        const size_t left = static_cast<size_t>(text.end - p);
        const size_t read = static_cast<size_t>(p - start_) + 1;
        const size_t here = static_cast<size_t>(items - items_before_);
        const double likely = alone ? 1.05 * static_cast<double>(left) * static_cast<double>(here) / static_cast<double>(read) : 0;
        const size_t most = left / 2 + 2;
        size_t more = static_cast<size_t>(items) + 64;
        if (likely > static_cast<double>(more)) more = static_cast<size_t>(likely);
        if (more > most) more = most;
        return buffer.grow((static_cast<size_t>(items) + more) * element_bytes);
    }

    const char* start_ = nullptr;   // first byte of the value being read; borrowed
    int64_t items_before_ = 0;      // elements of the values read before it
    bool signs_ = false;            // a minus was read
};

// A list of objects with the same keys, or of lists with one value a column: row by row into one TensorReader per column.
class RowReader {
  public:
    struct Column {
        std::string name;            // the key, UTF-8
        int64_t rows = 0;            // rows that had it
        TensorReader tensor;
    };

    int count = 0;                   // columns
    bool lists = false;              // rows are lists; their columns' readers are made with rank 0
    bool others = false;             // keys of no column are passed over
    int64_t rows = 0;                // whole rows read; while one is read, its index
    int failed = -1;                 // the column whose value or key is at fault; -1: the row itself
    std::string unknown;             // the key of Fault::unknown_key, escapes undone

    bool allocate(int columns_count) {
        columns_.reset(new (std::nothrow) Column[static_cast<size_t>(columns_count)]);
        count = columns_count;
        return columns_ != nullptr;
    }

    Column& column(int index) { return columns_[static_cast<size_t>(index)]; }

    // One past the list at `p`; nullptr: see text.fault.
    const char* read(Text& text, const char* p) {
        if (*p != '[') return wrong_type(text, p);
        p = skip_space(p + 1, text.end);
        if (*p == ']') return p + 1;
        for (;;) {
            p = read_row(text, p);
            if (FASTSERVE_UNLIKELY(p == nullptr)) return nullptr;
            ++rows;
            p = skip_space(p, text.end);
            if (*p == ']') return p + 1;
            if (*p != ',') return text.syntax(p, "expected ',' or ']'");
            p = skip_space(p + 1, text.end);
        }
    }

  private:
    const char* read_row(Text& text, const char* p) {
        failed = -1;
        const char* const start = p;
        if (FASTSERVE_UNLIKELY(*p != (lists ? '[' : '{'))) {
            if (wrong_type(text, p) == nullptr && text.fault == Fault::type) text.fault = Fault::not_object;
            return nullptr;
        }
        if (lists) return read_list(text, p);
        p = skip_space(p + 1, text.end);
        known_ = guess_ = 0;
        if (*p == '}') return count == 0 ? p + 1 : missing(text, start);
        for (;;) {
            p = read_member(text, p);
            if (FASTSERVE_UNLIKELY(p == nullptr)) return nullptr;
            p = skip_space(p, text.end);
            if (*p == '}') return known_ == count ? p + 1 : missing(text, start);
            if (*p != ',') return text.syntax(p, "expected ',' or '}'");
            p = skip_space(p + 1, text.end);
        }
    }

    // The list at `p`: a value for each column.
    const char* read_list(Text& text, const char* p) {
        const char* const start = p;
        p = skip_space(p + 1, text.end);
        if (*p == ']') return count == 0 ? p + 1 : wrong_width(text, start, 0);
        for (int done = 0; done < count;) {
            failed = done;
            p = column(done++).tensor.read(text, p);
            if (FASTSERVE_UNLIKELY(p == nullptr)) return nullptr;
            p = skip_space(p, text.end);
            if (*p == ']') return done == count ? p + 1 : wrong_width(text, start, done);
            if (*p != ',') return text.syntax(p, "expected ',' or ']'");
            p = skip_space(p + 1, text.end);
        }
        return wrong_width(text, start, count + 1);
    }

    FASTSERVE_COLD const char* wrong_width(Text& text, const char* row, int got) {
        failed = -1;
        text.wanted = count;
        text.got = got;
        return text.fail(Fault::list_length, row);
    }

    const char* read_member(Text& text, const char* p) {
        failed = -1;
        if (*p != '"') return text.syntax(p, "expected a key in quotes");
        Quoted key;
        key.begin = p + 1;
        const char* const after = skip_string(text, p);
        if (after == nullptr) return nullptr;
        key.end = after - 1;
        const int index = find(key);
        if (index < 0 && !others) return text.fail(Fault::unknown_key, p);
        if (index >= 0) {
            failed = index;
            if (column(index).rows > rows) return text.fail(Fault::duplicate_key, p);
            ++column(index).rows;
            ++known_;
            guess_ = index + 1;
        }
        p = skip_space(after, text.end);
        if (*p != ':') return text.syntax(p, "expected ':' after a key");
        p = skip_space(p + 1, text.end);
        return index < 0 ? skip_value(text, p) : column(index).tensor.read(text, p);
    }

    // The key's column; mostly the one behind that of the key before.
    int find(const Quoted& key) {
        if (!key.has_escape()) {
            if (guess_ < count && is(column(guess_).name, key)) return guess_;
            for (int i = 0; i < count; ++i) {
                if (is(column(i).name, key)) return i;
            }
        }
        unescape(key.begin, key.end, unknown);
        for (int i = 0; i < count; ++i) {
            if (column(i).name == unknown) return i;
        }
        return -1;
    }

    static bool is(const std::string& name, const Quoted& key) { return key.is(name.data(), name.size()); }

    FASTSERVE_COLD const char* missing(Text& text, const char* row) {
        failed = 0;
        while (column(failed).rows > rows) ++failed;
        return text.fail(Fault::missing_key, row);
    }

    std::unique_ptr<Column[]> columns_;
    int known_ = 0;                  // of the row being read: keys that have a column
    int guess_ = 0;                  // the column that the next key is likely to be
};

}  // namespace fastserve
