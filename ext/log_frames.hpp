// Frames of the prediction log's segments: the bytes of their heads, and the checksums in them (crc32 as zlib has it).
//
// Thread: any, no Python object is touched. Memory: payloads are borrowed, what is written is the caller's.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastserve {

using CrcTables = std::array<std::array<uint32_t, 256>, 16>;

constexpr CrcTables make_crc_tables() {
    CrcTables tables{};
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0u);
        tables[0][byte] = crc;
    }
    for (size_t row = 1; row < 16; row++) {
        for (size_t byte = 0; byte < 256; byte++) {
            uint32_t before = tables[row - 1][byte];
            tables[row][byte] = (before >> 8) ^ tables[0][before & 0xFF];
        }
    }
    return tables;
}

inline constexpr CrcTables CRC_TABLES = make_crc_tables();

// Sixteen bytes at a time: what each of them does to the crc is known beforehand, and does not wait for the others.
inline uint32_t crc32(uint32_t start, const char* data, size_t size) {
    const auto* at = reinterpret_cast<const unsigned char*>(data);
    uint32_t crc = ~start;
    for (; size >= 16; size -= 16, at += 16) {
        uint32_t next = 0;
        for (int i = 0; i < 4; i++) next ^= CRC_TABLES[15 - i][at[i] ^ ((crc >> (8 * i)) & 0xFF)];
        for (int i = 4; i < 16; i++) next ^= CRC_TABLES[15 - i][at[i]];
        crc = next;
    }
    for (; size; size--, at++) crc = (crc >> 8) ^ CRC_TABLES[0][(crc ^ *at) & 0xFF];
    return ~crc;
}

template <typename Number>
inline char* put_little(char* at, Number number) {
    for (size_t i = 0; i < sizeof(Number); i++) at[i] = static_cast<char>(number >> (8 * i));
    return at + sizeof(Number);
}

struct LogFrame {
    uint32_t word;        // kind, flags, mark
    const char* payload;  // borrowed from a bytes object that the caller holds
    uint32_t bytes;
    uint64_t seq;
};

// The head, and the payload where it is written beside it; what stands behind.
inline char* write_frame(char* at, const LogFrame& frame, uint64_t ingest_ns, uint32_t seed, bool with_payload) {
    char* head = at;
    at = put_little(at, frame.word);
    at = put_little(at, frame.bytes);
    at = put_little(at, ingest_ns);
    at = put_little(at, frame.seq);
    at = put_little(at, crc32(seed, frame.payload, frame.bytes));
    at = put_little(at, crc32(seed, head, static_cast<size_t>(at - head)));
    if (!with_payload) return at;
    std::memcpy(at, frame.payload, frame.bytes);
    return at + frame.bytes;
}

}  // namespace fastserve
