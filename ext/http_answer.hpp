// One HTTP/1.x answer, read from pieces of any size: where it ends, its status, and whether the connection stays.
// Thread: one. Memory: borrows the pieces; keeps a line that is split between two, and the beginning of an error's body.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace loadgen {

enum class Reading { MORE, DONE, BAD };

class AnswerReader {
public:
    static constexpr std::size_t MAX_LINE_BYTES = 64 << 10;
    static constexpr std::size_t MAX_HEAD_BYTES = 256 << 10;
    static constexpr std::size_t SAMPLE_BYTES = 600;
    static constexpr std::uint64_t MAX_BODY_BYTES = std::uint64_t{1} << 62;

    void reset() noexcept {
        state_ = State::STATUS_LINE;
        status_ = 0;
        fault_ = "";
        body_bytes_ = 0;
        line_.clear();
        sample_.clear();
        start_head();
    }

    // Take what is there; `used` becomes how much of it is the answer's. After DONE or BAD: reset first.
    Reading feed(const char* data, std::size_t size, std::size_t& used) {
        const char* at = data;
        const char* const end = data + size;
        Reading reading = Reading::MORE;
        while (reading == Reading::MORE && at != end) {
            const auto left = static_cast<std::size_t>(end - at);
            switch (state_) {
                case State::BODY:
                case State::CHUNK:
                    at += take_body(at, left);
                    reading = rest_ > 0 ? Reading::MORE : body_over();
                    break;
                case State::UNTIL_CLOSE:
                    rest_ = left;
                    at += take_body(at, left);
                    break;
                default:
                    reading = take_line(at, end);
            }
        }
        used = static_cast<std::size_t>(at - data);
        return reading;
    }

    // The peer has closed: whether that was the end of the answer.
    Reading end() noexcept {
        keeps_ = false;
        if (state_ == State::UNTIL_CLOSE) return Reading::DONE;
        fault_ = "the connection was closed in the middle of the answer";
        return Reading::BAD;
    }

    // Whether nothing of an answer has come yet.
    bool untouched() const noexcept { return state_ == State::STATUS_LINE && line_.empty() && head_bytes_ == 0; }

    int status() const noexcept { return status_; }
    bool keeps() const noexcept { return keeps_; }
    std::uint64_t body_bytes() const noexcept { return body_bytes_; }
    const char* fault() const noexcept { return fault_; }
    const std::string& sample() const noexcept { return sample_; }

private:
    enum class State { STATUS_LINE, HEADER, BODY, UNTIL_CLOSE, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

    void start_head() noexcept {
        head_bytes_ = 0;
        rest_ = 0;
        has_length_ = chunked_ = encoded_ = false;
    }

    Reading bad(const char* fault) noexcept {
        fault_ = fault;
        keeps_ = false;
        return Reading::BAD;
    }

    std::size_t take_body(const char* at, std::size_t left) {
        const std::size_t taken = rest_ < left ? static_cast<std::size_t>(rest_) : left;
        if (status_ >= 300 && sample_.size() < SAMPLE_BYTES) {
            sample_.append(at, std::min(taken, SAMPLE_BYTES - sample_.size()));
        }
        body_bytes_ += taken;
        rest_ -= taken;
        return taken;
    }

    Reading body_over() noexcept {
        if (state_ == State::BODY) return Reading::DONE;
        state_ = State::CHUNK_END;
        return Reading::MORE;
    }

    // A whole line, or what there is of it; `at` moves behind it.
    Reading take_line(const char*& at, const char* end) {
        const auto left = static_cast<std::size_t>(end - at);
        const auto* newline = static_cast<const char*>(std::memchr(at, '\n', left));
        const std::size_t length = newline == nullptr ? left : static_cast<std::size_t>(newline - at);
        if (line_.size() + length > MAX_LINE_BYTES) return bad("a line of the answer's head is too long");
        head_bytes_ += length + 1;
        if (head_bytes_ > MAX_HEAD_BYTES && state_ != State::CHUNK_SIZE && state_ != State::CHUNK_END) {
            return bad("the answer's head is too long");
        }
        const char* const start = at;
        at += newline == nullptr ? length : length + 1;
        if (newline == nullptr || !line_.empty()) line_.append(start, length);
        if (newline == nullptr) return Reading::MORE;
        if (line_.empty()) return read_line(without_return({start, length}));
        const Reading reading = read_line(without_return(line_));
        line_.clear();
        return reading;
    }

    static std::string_view without_return(std::string_view line) noexcept {
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        return line;
    }

    Reading read_line(std::string_view line) {
        switch (state_) {
            case State::STATUS_LINE: return read_status(line);
            case State::HEADER: return line.empty() ? head_over() : read_header(line);
            case State::CHUNK_SIZE: return read_chunk_size(line);
            case State::CHUNK_END:
                if (!line.empty()) return bad("a chunk of the answer is longer than it says");
                state_ = State::CHUNK_SIZE;
                return Reading::MORE;
            default: return line.empty() ? Reading::DONE : Reading::MORE;  // a trailer
        }
    }

    Reading read_status(std::string_view line) noexcept {
        const bool right = line.size() >= 12 && line.substr(0, 7) == "HTTP/1." && is_digit(line[7]) && line[8] == ' ' &&
                           is_digit(line[9]) && is_digit(line[10]) && is_digit(line[11]) &&
                           (line.size() == 12 || line[12] == ' ');
        if (!right) return bad("what was answered is not HTTP/1.1");
        status_ = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
        if (status_ < 100) return bad("the answer's status is below 100");
        keeps_ = line[7] != '0';
        state_ = State::HEADER;
        return Reading::MORE;
    }

    Reading read_header(std::string_view line) noexcept {
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) {
            return line[0] == ' ' || line[0] == '\t' ? Reading::MORE : bad("a header of the answer has no colon");
        }
        const std::string_view name = line.substr(0, colon);
        const std::string_view value = trimmed(line.substr(colon + 1));
        if (same(name, "content-length")) return read_length(value);
        if (same(name, "transfer-encoding")) {
            encoded_ = true;
            chunked_ = same(last_token(value), "chunked");
        } else if (same(name, "connection")) {
            read_connection(value);
        }
        return Reading::MORE;
    }

    Reading read_length(std::string_view value) noexcept {
        std::uint64_t length = 0;
        if (value.empty() || value.size() > 18) return bad("the answer's Content-Length is no length");
        for (const char one : value) {
            if (!is_digit(one)) return bad("the answer's Content-Length is no length");
            length = length * 10 + static_cast<std::uint64_t>(one - '0');
        }
        if (has_length_ && length != rest_) return bad("the answer has two lengths");
        has_length_ = true;
        rest_ = length;
        return Reading::MORE;
    }

    void read_connection(std::string_view value) noexcept {
        while (!value.empty()) {
            const std::size_t comma = std::min(value.find(','), value.size());
            const std::string_view token = trimmed(value.substr(0, comma));
            if (same(token, "close")) keeps_ = false;
            if (same(token, "keep-alive")) keeps_ = true;
            value.remove_prefix(std::min(comma + 1, value.size()));
        }
    }

    Reading head_over() noexcept {
        if (status_ == 101) return bad("the server switches protocols");
        if (status_ < 200) {
            state_ = State::STATUS_LINE;
            start_head();
            return Reading::MORE;
        }
        if (status_ == 204 || status_ == 304) return Reading::DONE;
        if (encoded_) {
            if (has_length_) keeps_ = false;  // RFC 9112, 6.1: it may be an attempt to smuggle
            state_ = chunked_ ? State::CHUNK_SIZE : State::UNTIL_CLOSE;
            return Reading::MORE;
        }
        if (has_length_) {
            state_ = State::BODY;
            return rest_ == 0 ? Reading::DONE : Reading::MORE;
        }
        state_ = State::UNTIL_CLOSE;
        return Reading::MORE;
    }

    Reading read_chunk_size(std::string_view line) noexcept {
        line = trimmed(line.substr(0, line.find(';')));
        if (line.empty() || line.size() > 15) return bad("the size of a chunk of the answer is no size");
        std::uint64_t size = 0;
        for (const char one : line) {
            const int digit = hex_digit(one);
            if (digit < 0) return bad("the size of a chunk of the answer is no size");
            size = size * 16 + static_cast<std::uint64_t>(digit);
        }
        rest_ = size;
        head_bytes_ = 0;
        state_ = size == 0 ? State::TRAILER : State::CHUNK;
        return Reading::MORE;
    }

    static bool is_digit(char one) noexcept { return one >= '0' && one <= '9'; }

    static char lower(char one) noexcept { return one >= 'A' && one <= 'Z' ? static_cast<char>(one + 32) : one; }

    static int hex_digit(char one) noexcept {
        if (is_digit(one)) return one - '0';
        one = lower(one);
        return one >= 'a' && one <= 'f' ? one - 'a' + 10 : -1;
    }

    static bool same(std::string_view text, std::string_view lowered) noexcept {
        if (text.size() != lowered.size()) return false;
        for (std::size_t at = 0; at < text.size(); ++at) {
            if (lower(text[at]) != lowered[at]) return false;
        }
        return true;
    }

    static std::string_view trimmed(std::string_view text) noexcept {
        while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
        while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
        return text;
    }

    static std::string_view last_token(std::string_view value) noexcept {
        const std::size_t comma = value.rfind(',');
        return trimmed(comma == std::string_view::npos ? value : value.substr(comma + 1));
    }

    State state_ = State::STATUS_LINE;
    int status_ = 0;
    bool keeps_ = false;
    bool has_length_ = false;
    bool chunked_ = false;
    bool encoded_ = false;
    std::uint64_t rest_ = 0;  // bytes of the body or of the chunk that have not come yet
    std::uint64_t body_bytes_ = 0;
    std::size_t head_bytes_ = 0;
    const char* fault_ = "";
    std::string line_;
    std::string sample_;
};

}  // namespace loadgen
