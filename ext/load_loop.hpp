// Drives one server over many connections from one thread: closed loop, or open loop with arrivals at a rate.
//
// Each request has exactly one outcome: an HTTP status or a Failure. Its latency counts from when it was meant to be sent:
// in a closed loop when its connection was free, in an open loop when it arrived, however long it then had to wait for a
// connection (so a server that stalls cannot hide what it made wait). Making a connection counts as part of it.
// Thread: `run` on one; `stop` and the atomics from any. Memory: request bytes are borrowed for as long as the loop lives.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hdr_counts.hpp"
#include "http_answer.hpp"

namespace loadgen {

// What `Wire` answers where it moved nothing.
constexpr long WANTS_READ = -1;
constexpr long WANTS_WRITE = -2;
constexpr long BROKEN = -3;

// How bytes go through a socket that is not plain; all of it is called by the thread that runs the loop.
struct Wire {
    void* self = nullptr;
    long (*open)(void*, int slot, int fd) = nullptr;  // takes the socket over: from then on `close` closes it
    long (*shake)(void*, int slot) = nullptr;         // 0 when it is done
    long (*read)(void*, int slot, char*, std::size_t) = nullptr;
    long (*write)(void*, int slot, const char*, std::size_t) = nullptr;
    void (*close)(void*, int slot) = nullptr;
};

struct Bytes {
    const char* data;  // borrowed from a Python bytes object that the driver holds
    std::size_t size;
};

struct Plan {
    std::int64_t duration_ns = 0;   // 0: until max_requests
    std::int64_t max_requests = 0;  // 0: until duration_ns
    double per_s = 0;               // arrivals a second; 0: closed loop
    bool poisson = true;
    std::uint64_t seed = 0;
    std::int64_t timeout_ns = 0;
    std::vector<std::int64_t> times_ns;  // of an open loop: when they arrive after its beginning; empty: drawn
};

enum Failure { CONNECT, TLS, CLOSED, TIMEOUT, PROTOCOL, UNSENT, FAILURES };

struct Slice {
    std::int64_t good = 0;
    std::int64_t failed = 0;
    std::int64_t most_ns = 0;
};

struct Counts {
    static constexpr std::size_t MAX_SAMPLES = 16;

    std::array<std::int64_t, 1000> by_status{};
    std::array<std::int64_t, FAILURES> by_failure{};
    std::map<int, std::string> samples;            // by status: the beginning of one body
    std::array<std::string, FAILURES> reasons{};   // the first of each
    HdrCounts latency;                             // 2xx answers, from when each was meant to be sent
    HdrCounts service;                             // the same, from when it was sent
    HdrCounts failed;                              // other answers and failures
    HdrCounts late;                                // how much later than meant a request was sent
    std::int64_t good_in_time = 0;                 // 2xx answers before the end
    std::int64_t sent_bytes = 0;
    std::int64_t received_bytes = 0;
    std::int64_t connections = 0;                  // made
    std::int64_t unfinished = 0;                   // when it was stopped
    std::int64_t elapsed_ns = 0;
    std::int64_t slice_ns = 0;
    std::vector<Slice> slices;
};

// xoshiro256**, seeded by splitmix64: the same seed gives the same arrivals everywhere.
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept {
        for (auto& word : state_) {
            std::uint64_t mixed = (seed += 0x9e3779b97f4a7c15U);
            mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
            mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
            word = mixed ^ (mixed >> 31);
        }
    }

    // Between 0 and 1, 1 excluded.
    double share() noexcept {
        const std::uint64_t given = rotated(state_[1] * 5, 7) * 9;
        const std::uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = rotated(state_[3], 45);
        return static_cast<double>(given >> 11) * 0x1p-53;
    }

private:
    static std::uint64_t rotated(std::uint64_t word, int by) noexcept { return (word << by) | (word >> (64 - by)); }

    std::array<std::uint64_t, 4> state_{};
};

class Arrivals {
public:
    Arrivals(double per_s, bool poisson, std::uint64_t seed) noexcept
        : random_(seed), gap_ns_(1e9 / per_s), poisson_(poisson) {}

    // As listed, and none afterwards.
    explicit Arrivals(std::vector<std::int64_t> times_ns)
        : random_(0), gap_ns_(0), poisson_(false), listed_(std::move(times_ns)) {}

    // The next one's time after the first moment, in ns.
    std::int64_t next() noexcept {
        if (gap_ns_ == 0) return place_ < listed_.size() ? listed_[place_++] : NEVER;
        at_ns_ += poisson_ ? -std::log1p(-random_.share()) * gap_ns_ : gap_ns_;
        return at_ns_ < 4e18 ? static_cast<std::int64_t>(at_ns_) : NEVER;
    }

private:
    static constexpr std::int64_t NEVER = std::int64_t{1} << 62;

    Random random_;
    double gap_ns_;
    double at_ns_ = 0;
    bool poisson_;
    std::vector<std::int64_t> listed_;
    std::size_t place_ = 0;
};

class Loop {
public:
    Loop(std::size_t connections, std::vector<Bytes> requests, Wire wire, bool keeps)
        : wire_(wire), keeps_(keeps), requests_(std::move(requests)), connections_(connections), buffer_(BUFFER_BYTES) {
        epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
        if (epoll_ < 0) throw std::runtime_error("epoll_create1 failed: no file descriptor is left");
    }

    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    ~Loop() {
        for (auto& one : connections_) shut(one);
        ::close(epoll_);
    }

    // `host` as a numeric address, or the path of a Unix socket. False where it is none.
    bool aim(int family, const std::string& host, std::uint16_t port) noexcept {
        std::memset(&address_, 0, sizeof address_);
        address_.ss_family = static_cast<sa_family_t>(family);
        if (family == AF_INET) {
            auto* v4 = reinterpret_cast<sockaddr_in*>(&address_);
            v4->sin_port = htons(port);
            address_bytes_ = sizeof *v4;
            return ::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1;
        }
        if (family == AF_INET6) {
            auto* v6 = reinterpret_cast<sockaddr_in6*>(&address_);
            v6->sin6_port = htons(port);
            address_bytes_ = sizeof *v6;
            return ::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1;
        }
        auto* local = reinterpret_cast<sockaddr_un*>(&address_);
        if (family != AF_UNIX || host.empty() || host.size() >= sizeof local->sun_path) return false;
        std::memcpy(local->sun_path, host.data(), host.size());
        address_bytes_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + host.size() + 1);
        return true;
    }

    void stop() noexcept { stopped_.store(true, std::memory_order_relaxed); }

    // Until the plan is done and every answer is there or too late, or until `stop`. Counts start anew.
    void run(const Plan& plan) {
        const int slack = ::prctl(PR_GET_TIMERSLACK);
        ::prctl(PR_SET_TIMERSLACK, 1UL);  // 50 us otherwise: arrivals would be late by as much
        begin(plan);
        while (!stopped_.load(std::memory_order_relaxed)) {
            const std::int64_t now = now_ns();
            if (is_open() && !over_) send_due(now);
            over_ = over_ || is_over(now);
            if (over_ && busy_ == 0) break;
            if (now >= next_look_) look_at_times(now);
            wait(now);
        }
        finish();
        if (slack >= 0) ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(slack));
    }

    Counts& counts() noexcept { return counts_; }
    std::int64_t good() const noexcept { return good_.load(std::memory_order_relaxed); }
    std::int64_t bad() const noexcept { return bad_.load(std::memory_order_relaxed); }

private:
    static constexpr std::size_t BUFFER_BYTES = 256 << 10;
    static constexpr int MAX_EVENTS = 256;
    static constexpr std::int64_t LOOK_NS = 10'000'000;
    static constexpr std::int64_t AGAIN_NS = 50'000'000;  // after a connection that could not be made
    static constexpr std::int64_t SLICE_NS = 100'000'000;
    static constexpr std::int64_t MAX_SLICES = 100;
    static constexpr std::int64_t MAX_DRAWN = 1'000'000;

    enum class State { SHUT, CONNECTING, SHAKING, IDLE, BUSY };

    struct Connection {
        State state = State::SHUT;
        int fd = -1;
        bool asked = false;   // a request waits for its outcome
        bool watched = false; // whether there is room to write, too
        bool spoilt = false;  // what is left of the request cannot be written any more
        std::int64_t again_ns = 0;  // when it may be made again; 0: at any time
        std::int64_t intended_ns = 0;
        std::int64_t started_ns = 0;
        std::int64_t deadline_ns = 0;
        std::size_t request = 0;
        std::size_t sent = 0;
        AnswerReader reader;
    };

    static std::int64_t now_ns() noexcept {
        timespec time{};
        ::clock_gettime(CLOCK_MONOTONIC, &time);
        return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
    }

    bool is_open() const noexcept { return plan_.per_s > 0; }
    bool is_safe() const noexcept { return wire_.self != nullptr; }
    int slot_of(const Connection& one) const noexcept { return static_cast<int>(&one - connections_.data()); }

    // --- a run

    void begin(const Plan& plan) {
        take_events(0);  // what was closed since the last run is no connection any more
        plan_ = plan;
        counts_ = Counts();
        good_ = bad_ = 0;
        begun_ns_ = now_ns();
        end_ns_ = plan.duration_ns > 0 ? begun_ns_ + plan.duration_ns : std::numeric_limits<std::int64_t>::max();
        counts_.slice_ns = std::max(SLICE_NS, plan.duration_ns / MAX_SLICES);
        issued_ = busy_ = 0;
        over_ = false;
        next_look_ = begun_ns_ + LOOK_NS;
        free_.clear();
        if (is_open()) {
            arrivals_ = plan.times_ns.empty() ? Arrivals(plan.per_s, plan.poisson, plan.seed) : Arrivals(plan.times_ns);
            next_arrival_ns_ = begun_ns_ + arrivals_.next();
            for (const bool idle : {false, true}) {  // those that are made already are taken first: from the end
                for (auto& one : connections_) {
                    if ((one.state == State::IDLE) == idle) free_.push_back(slot_of(one));
                }
            }
        } else {
            for (auto& one : connections_) {
                if (!is_over(begun_ns_)) ask(one, begun_ns_, begun_ns_);
            }
        }
    }

    bool is_over(std::int64_t now) const noexcept {
        return now >= end_ns_ || (plan_.max_requests > 0 && issued_ >= plan_.max_requests);
    }

    void send_due(std::int64_t now) {
        while (next_arrival_ns_ <= now && next_arrival_ns_ < end_ns_ && !free_.empty()) {
            if (plan_.max_requests > 0 && issued_ >= plan_.max_requests) return;
            auto& one = connections_[static_cast<std::size_t>(free_.back())];
            free_.pop_back();
            counts_.late.record(now - next_arrival_ns_);
            ask(one, next_arrival_ns_, now);
            next_arrival_ns_ = begun_ns_ + arrivals_.next();
        }
    }

    void wait(std::int64_t now) {
        std::int64_t until = next_look_;
        if (is_open() && !over_ && !free_.empty()) until = std::min(until, std::min(next_arrival_ns_, end_ns_));
        const std::int64_t left = std::max<std::int64_t>(0, until - now);
        if (!is_open()) return take_events(static_cast<int>(left / 1'000'000) + 1);
        pollfd ready{epoll_, POLLIN, 0};  // epoll_wait counts in milliseconds
        const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
        if (::ppoll(&ready, 1, &limit, nullptr) > 0) take_events(0);
    }

    void take_events(int within_ms) {
        std::array<epoll_event, MAX_EVENTS> events;
        const int count = ::epoll_wait(epoll_, events.data(), MAX_EVENTS, within_ms);
        for (int at = 0; at < count; ++at) {
            auto& one = connections_[events[static_cast<std::size_t>(at)].data.u32];
            happened(one, events[static_cast<std::size_t>(at)].events);
        }
    }

    void look_at_times(std::int64_t now) {
        next_look_ = now + LOOK_NS;
        for (auto& one : connections_) {
            if (one.asked && now >= one.deadline_ns) {
                fail(one, TIMEOUT, "no answer came in time");
            } else if (!one.asked && one.again_ns != 0 && now >= one.again_ns) {
                one.again_ns = 0;
                go_on(one, now);
            }
        }
    }

    void finish() {
        const std::int64_t now = now_ns();
        const bool stopped = stopped_.load(std::memory_order_relaxed);
        counts_.elapsed_ns = std::max<std::int64_t>(1, now - begun_ns_);
        for (auto& one : connections_) {
            one.again_ns = 0;
            if (!one.asked) continue;
            one.asked = false;
            ++counts_.unfinished;
            shut(one);
        }
        busy_ = 0;
        if (is_open()) count_unsent(stopped ? std::min(now, end_ns_) : end_ns_);
    }

    // What has arrived and found no connection in time; more than a million of them are reckoned, not drawn.
    void count_unsent(std::int64_t end) {
        const std::int64_t most = plan_.max_requests > 0 ? plan_.max_requests - issued_
                                                         : std::numeric_limits<std::int64_t>::max();
        std::int64_t unsent = 0;
        while (next_arrival_ns_ < end && unsent < most && unsent < MAX_DRAWN) {
            ++unsent;
            next_arrival_ns_ = begun_ns_ + arrivals_.next();
        }
        if (unsent == MAX_DRAWN && next_arrival_ns_ < end) {
            const double left = static_cast<double>(end - next_arrival_ns_) * 1e-9 * plan_.per_s;
            unsent = static_cast<std::int64_t>(std::min(static_cast<double>(most), static_cast<double>(unsent) + left));
        }
        counts_.by_failure[UNSENT] += unsent;
        bad_.fetch_add(unsent, std::memory_order_relaxed);
    }

    // --- one request

    void ask(Connection& one, std::int64_t intended, std::int64_t now) {
        ++issued_;
        ++busy_;
        one.request = next_request_;
        next_request_ = next_request_ + 1 == requests_.size() ? 0 : next_request_ + 1;
        one.sent = 0;
        one.spoilt = false;
        one.asked = true;
        one.intended_ns = intended;
        one.started_ns = now;
        one.deadline_ns = now + plan_.timeout_ns;
        one.reader.reset();
        if (one.state == State::IDLE) {
            one.state = State::BUSY;
            push(one);
        } else {
            open(one);
        }
    }

    void open(Connection& one) {
        one.fd = ::socket(address_.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (one.fd < 0) return fail(one, CONNECT, std::strerror(errno));
        const int yes = 1;
        if (address_.ss_family != AF_UNIX) ::setsockopt(one.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        const int told = ::connect(one.fd, reinterpret_cast<const sockaddr*>(&address_), address_bytes_);
        if (told != 0 && errno != EINPROGRESS) return fail(one, CONNECT, std::strerror(errno));
        epoll_event event{};
        event.events = EPOLLIN | (told == 0 ? 0U : EPOLLOUT);
        event.data.u32 = static_cast<std::uint32_t>(slot_of(one));
        if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, one.fd, &event) != 0) return fail(one, CONNECT, std::strerror(errno));
        one.watched = told != 0;
        one.state = State::CONNECTING;
        if (told == 0) connected(one);
    }

    void connected(Connection& one) {
        ++counts_.connections;
        if (!is_safe()) {
            one.state = State::BUSY;
            return push(one);
        }
        one.state = State::SHAKING;
        if (wire_.open(wire_.self, slot_of(one), one.fd) == BROKEN) return fail(one, TLS, "TLS could not begin");
        shake(one);
    }

    void shake(Connection& one) {
        const long told = wire_.shake(wire_.self, slot_of(one));
        if (told == BROKEN) return fail(one, TLS, "the TLS handshake failed");
        watch(one, told == WANTS_WRITE);
        if (told != 0) return;
        one.state = State::BUSY;
        push(one);
    }

    // Write what is left of the request, as far as there is room.
    void push(Connection& one) {
        const Bytes& request = requests_[one.request];
        while (one.sent < request.size) {
            const long put = write(one, request.data + one.sent, request.size - one.sent);
            if (put == WANTS_WRITE || put == WANTS_READ) return watch(one, put == WANTS_WRITE);
            if (put == BROKEN) {  // what the server said before it hung up may still be there to read
                one.spoilt = true;
                break;
            }
            one.sent += static_cast<std::size_t>(put);
            counts_.sent_bytes += put;
        }
        watch(one, false);
    }

    void pull(Connection& one) {
        for (;;) {
            const long got = read(one);
            if (got == WANTS_READ) return;
            if (got == WANTS_WRITE) return watch(one, true);
            if (got <= 0) return hung_up(one, got == 0);
            counts_.received_bytes += got;
            std::size_t used = 0;
            const Reading reading = one.reader.feed(buffer_.data(), static_cast<std::size_t>(got), used);
            if (reading == Reading::BAD) return fail(one, PROTOCOL, one.reader.fault());
            if (reading == Reading::DONE) {
                const bool whole = one.sent == requests_[one.request].size && !one.spoilt;
                return answered(one, whole && keeps_ && used == static_cast<std::size_t>(got) && one.reader.keeps());
            }
            if (!is_safe() && static_cast<std::size_t>(got) < BUFFER_BYTES) return;
        }
    }

    void hung_up(Connection& one, bool properly) {
        if (one.reader.untouched()) return fail(one, CLOSED, "the connection was closed without an answer");
        if (properly && one.reader.end() == Reading::DONE) return answered(one, false);
        fail(one, CLOSED, "the connection was closed in the middle of the answer");
    }

    void answered(Connection& one, bool stays) {
        const std::int64_t now = now_ns();
        const int status = one.reader.status();
        const std::int64_t latency = now - one.intended_ns;
        ++counts_.by_status[static_cast<std::size_t>(status)];
        const bool good = status >= 200 && status < 300;
        if (good) {
            counts_.latency.record(latency);
            counts_.service.record(now - one.started_ns);
            counts_.good_in_time += now <= end_ns_;
        } else {
            counts_.failed.record(latency);
            if (counts_.samples.size() < Counts::MAX_SAMPLES) counts_.samples.emplace(status, one.reader.sample());
        }
        note(now, latency, good);
        if (stays) {
            one.state = State::IDLE;
        } else {
            shut(one);
        }
        done(one, now);
    }

    void fail(Connection& one, Failure kind, const char* reason) {
        const std::int64_t now = now_ns();
        ++counts_.by_failure[kind];
        if (counts_.reasons[kind].empty()) counts_.reasons[kind] = reason;
        counts_.failed.record(now - one.intended_ns);
        note(now, now - one.intended_ns, false);
        shut(one);
        if (kind == CONNECT || kind == TLS) {
            one.asked = false;
            one.again_ns = now + AGAIN_NS;
            --busy_;
        } else {
            done(one, now);
        }
    }

    void note(std::int64_t now, std::int64_t latency, bool good) {
        (good ? good_ : bad_).fetch_add(1, std::memory_order_relaxed);
        const auto at = static_cast<std::size_t>(std::min(MAX_SLICES, (now - begun_ns_) / counts_.slice_ns));
        if (at >= counts_.slices.size()) counts_.slices.resize(at + 1);
        Slice& slice = counts_.slices[at];
        ++(good ? slice.good : slice.failed);
        slice.most_ns = std::max(slice.most_ns, latency);
    }

    void done(Connection& one, std::int64_t now) {
        one.asked = false;
        --busy_;
        go_on(one, now);
    }

    void go_on(Connection& one, std::int64_t now) {
        if (is_open()) {
            free_.push_back(slot_of(one));
        } else if (!is_over(now)) {
            ask(one, now, now);
        }
    }

    // --- one socket

    void happened(Connection& one, std::uint32_t events) {
        switch (one.state) {
            case State::CONNECTING: {
                int error = 0;
                socklen_t size = sizeof error;
                if (::getsockopt(one.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
                if (error != 0) return fail(one, CONNECT, std::strerror(error));
                return connected(one);
            }
            case State::SHAKING: return shake(one);
            case State::BUSY:
                // Over TLS either direction may wait for the other one.
                if (((events & EPOLLOUT) != 0 || is_safe()) && !one.spoilt) push(one);
                return pull(one);
            case State::IDLE:
                // Nothing was asked: the server has closed, or says what nobody wants to know (TLS: tickets).
                if (read(one) != WANTS_READ) shut(one);
                return;
            case State::SHUT: return;
        }
    }

    void watch(Connection& one, bool room) {
        if (room == one.watched) return;
        epoll_event event{};
        event.events = EPOLLIN | (room ? EPOLLOUT : 0U);
        event.data.u32 = static_cast<std::uint32_t>(slot_of(one));
        ::epoll_ctl(epoll_, EPOLL_CTL_MOD, one.fd, &event);
        one.watched = room;
    }

    long read(const Connection& one) {
        if (is_safe()) return wire_.read(wire_.self, slot_of(one), buffer_.data(), buffer_.size());
        const ssize_t got = ::recv(one.fd, buffer_.data(), buffer_.size(), 0);
        if (got >= 0) return got;
        return errno == EAGAIN || errno == EINTR ? WANTS_READ : BROKEN;
    }

    long write(const Connection& one, const char* data, std::size_t size) {
        if (is_safe()) return wire_.write(wire_.self, slot_of(one), data, size);
        const ssize_t put = ::send(one.fd, data, size, MSG_NOSIGNAL);
        if (put >= 0) return put;
        return errno == EAGAIN || errno == EINTR ? WANTS_WRITE : BROKEN;
    }

    void shut(Connection& one) noexcept {
        if (one.fd >= 0) {
            if (is_safe()) wire_.close(wire_.self, slot_of(one));
            ::close(one.fd);
        }
        one.fd = -1;
        one.watched = false;
        one.state = State::SHUT;
    }

    Wire wire_;
    bool keeps_;  // whether our requests let the connection stay
    std::vector<Bytes> requests_;
    std::vector<Connection> connections_;
    std::vector<char> buffer_;
    sockaddr_storage address_{};
    socklen_t address_bytes_ = 0;
    int epoll_ = -1;

    Plan plan_;
    Counts counts_;
    Arrivals arrivals_{1.0, true, 0};
    std::vector<int> free_;  // open loop: connections without a request; the last one is taken first
    std::size_t next_request_ = 0;
    std::int64_t issued_ = 0;
    std::int64_t busy_ = 0;
    std::int64_t begun_ns_ = 0;
    std::int64_t end_ns_ = 0;
    std::int64_t next_look_ = 0;
    std::int64_t next_arrival_ns_ = 0;
    bool over_ = false;
    std::atomic<bool> stopped_{false};
    std::atomic<std::int64_t> good_{0};
    std::atomic<std::int64_t> bad_{0};
};

}  // namespace loadgen
