// Counts of values by size, none further off than a thousandth: the bucket layout of HdrHistogram with three digits.
// Values below 2048 have a bucket each; above, every doubling has 1024 of one width.
// Memory: 264 KiB a histogram, taken once; recording takes none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace loadgen {

class HdrCounts {
public:
    static constexpr int HALF_BITS = 10;
    static constexpr std::int64_t HALF = std::int64_t{1} << HALF_BITS;
    static constexpr int TOP_BITS = 42;
    static constexpr std::int64_t HIGHEST = (std::int64_t{1} << TOP_BITS) - 1;  // 73 minutes in ns
    static constexpr std::size_t BUCKETS = (TOP_BITS - HALF_BITS + 1) * HALF;

    HdrCounts() : counts_(BUCKETS, 0) {}

    // The bucket of a value between 0 and HIGHEST.
    static std::size_t bucket_of(std::int64_t value) noexcept {
        const int digits = 64 - __builtin_clzll(static_cast<std::uint64_t>(value) | 1);
        const int shift = digits > HALF_BITS + 1 ? digits - (HALF_BITS + 1) : 0;
        return static_cast<std::size_t>((std::int64_t{shift} << HALF_BITS) + (value >> shift));
    }

    static std::int64_t lowest_in(std::size_t bucket) noexcept {
        const int shift = shift_of(bucket);
        return (static_cast<std::int64_t>(bucket) - (std::int64_t{shift} << HALF_BITS)) << shift;
    }

    static std::int64_t highest_in(std::size_t bucket) noexcept {
        return lowest_in(bucket) + (std::int64_t{1} << shift_of(bucket)) - 1;
    }

    // Values below 0 count as 0, those above HIGHEST as HIGHEST.
    void record(std::int64_t value, std::int64_t times = 1) noexcept {
        value = std::clamp<std::int64_t>(value, 0, HIGHEST);
        counts_[bucket_of(value)] += times;
        count_ += times;
        sum_ += static_cast<double>(value) * static_cast<double>(times);
        least_ = std::min(least_, value);
        most_ = std::max(most_, value);
    }

    void add(const HdrCounts& other) noexcept {
        for (std::size_t at = 0; at < BUCKETS; ++at) counts_[at] += other.counts_[at];
        count_ += other.count_;
        sum_ += other.sum_;
        least_ = std::min(least_, other.least_);
        most_ = std::max(most_, other.most_);
    }

    void clear() noexcept {
        std::fill(counts_.begin(), counts_.end(), 0);
        count_ = 0;
        sum_ = 0;
        least_ = HIGHEST;
        most_ = 0;
    }

    // The value that `share` (0 to 1) of all are not above, rounded up to its bucket's end; 0 where nothing was recorded.
    std::int64_t at_share(double share) const noexcept {
        const auto wanted = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(share * static_cast<double>(count_))));
        std::int64_t seen = 0;
        for (std::size_t at = 0; at < BUCKETS; ++at) {
            seen += counts_[at];
            if (seen >= wanted) return std::min(highest_in(at), most_);
        }
        return most_;
    }

    std::int64_t count() const noexcept { return count_; }
    std::int64_t least() const noexcept { return count_ == 0 ? 0 : least_; }
    std::int64_t most() const noexcept { return most_; }
    double mean() const noexcept { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }
    std::int64_t in_bucket(std::size_t bucket) const noexcept { return counts_[bucket]; }

private:
    static int shift_of(std::size_t bucket) noexcept {
        return bucket < 2 * HALF ? 0 : static_cast<int>(bucket >> HALF_BITS) - 1;
    }

    std::vector<std::int64_t> counts_;
    std::int64_t count_ = 0;
    std::int64_t least_ = HIGHEST;
    std::int64_t most_ = 0;
    double sum_ = 0;
};

}  // namespace loadgen
