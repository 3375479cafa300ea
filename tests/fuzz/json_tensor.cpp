// Feeds any bytes to every reader of ext/json_*.hpp and checks what must hold whatever they are.
//
//   make fuzz TARGET=json_tensor SECONDS=600    (tests/fuzz/README.md)
//
// The bytes lie in a block of exactly their size and the one NUL that the readers count on: AddressSanitizer sees the rest.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "json_tensor.hpp"

namespace {

using namespace fastserve;

constexpr int kTypes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16};

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

Text text_of(const char* bytes, size_t size) {
    Text text;
    text.at = bytes;
    text.end = bytes + size;
    return text;
}

// What a tensor takes is a JSON value of that extent, and its lists' lengths multiply to its elements.
void check_tensor(const char* bytes, size_t size, int dtype, const char* skipped) {
    Text text = text_of(bytes, size);
    TensorReader reader;
    reader.dtype = dtype;
    const char* const after = reader.read(text, skip_space(bytes, text.end));
    require((after == nullptr) == (text.fault != Fault::none), "a fault is set exactly when nothing is answered");
    if (after == nullptr) {
        require(text.bad >= bytes && text.bad <= text.end, "the fault lies in the text");
        require(text.fault == Fault::syntax || skipped == nullptr || text.fault != Fault::none, "a reason is given");
        return;
    }
    require(after == skipped, "a tensor ends where the value ends");
    int64_t product = 1;
    for (int level = 0; level < reader.rank; ++level) product *= reader.lengths[level];
    require(product == reader.items, "shape and elements agree");
    require(reader.items <= static_cast<int64_t>(size), "no element without text");
    for (int64_t i = 0; dtype == 8 && i < reader.items; ++i) {
        const StringSpan span = reader.spans()[i];
        std::string plain, raw;
        unescape(span.begin, span.begin + span.size, plain);
        require(plain.size() <= span.size, "escapes never grow");
        if (span.base64) decode_base64(plain.data(), plain.data() + plain.size(), raw);
        require(raw.size() <= plain.size(), "base64 never grows");
    }
}

// A number alone in the text: as the C library reads it, which rounds correctly too.
template <class Float>
void check_number(const char* bytes, size_t size, Float expected) {
    Text text = text_of(bytes, size);
    Float value = 0;
    const char* const start = skip_space(bytes, text.end);
    if (read_element(text, start, &value) == nullptr) return;
    require(std::memcmp(&value, &expected, sizeof(value)) == 0 || (value != value && expected != expected), "the library's value");
    for (bool signs : {false, true}) {
        Float common = 0;
        const char* const after = read_common(start, text.end, signs, &common);
        if (after == nullptr || (*after != ',' && *after != ']')) continue;
        require(std::memcmp(&common, &value, sizeof(value)) == 0, "the quick reader's value");
    }
}

void check_rows(const char* bytes, size_t size, const char* skipped) {
    Text text = text_of(bytes, size);
    RowReader reader;
    require(reader.allocate(2), "memory");
    reader.column(0).name = "a";
    reader.column(0).tensor.dtype = 1;
    reader.column(1).name = "b";
    reader.column(1).tensor.dtype = 8;
    const char* const after = reader.read(text, skip_space(bytes, text.end));
    if (after == nullptr) return;
    require(after == skipped, "rows end where the value ends");
    for (int index = 0; index < 2; ++index) {
        const TensorReader& tensor = reader.column(index).tensor;
        int64_t product = reader.rows;
        for (int level = 0; level < tensor.rank; ++level) product *= tensor.lengths[level];
        require(product == tensor.items, "every row brings its elements");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::unique_ptr<char[]> bytes(new char[size + 1]);
    if (size > 0) std::memcpy(bytes.get(), data, size);
    bytes[size] = '\0';
    Text text = text_of(bytes.get(), size);
    const char* const start = skip_space(bytes.get(), text.end);
    const char* const skipped = skip_value(text, start);
    require((skipped == nullptr) == (text.fault == Fault::syntax), "skipping finds broken JSON and nothing else");
    for (const int dtype : kTypes) check_tensor(bytes.get(), size, dtype, skipped);
    check_rows(bytes.get(), size, skipped);
    if (skipped != nullptr && (is_digit(*start) || *start == '-')) {
        const std::string token(start, skipped);
        check_number<float>(bytes.get(), size, std::strtof(token.c_str(), nullptr));
        check_number<double>(bytes.get(), size, std::strtod(token.c_str(), nullptr));
    }
    return 0;
}
