// The frames between the gate and a worker: docs/architecture.md, "The data plane".
//
// requests  count:2 awake:2   (head:4 body:4 parts:2 unused:2)...      heads  bodies
// replies   (index:2 status:2 head:4 body:4)...                        heads  bodies
//
// The length of a frame of requests, and what precedes the replies, are left to the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace core {

constexpr size_t COUNT = 4, RECORD = 12;

// All integers are little-endian, as this machine's are.
template <typename Integer>
inline Integer integer_at(const char* at) {
    Integer value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

struct Request {
    const char *id, *id_end;
    const char *asked, *asked_end;  // its Content-Type, Accept and Content-Encoding: three lines
    const char *body, *body_end;
};

// The requests of a frame, one after another.
class Requests {
  public:
    Requests(const char* start, const char* end) : at(start + COUNT) {
        if (end - start < static_cast<ptrdiff_t>(COUNT)) return;
        const uint16_t records = integer_at<uint16_t>(start);
        uint64_t heads = 0, bodies = 0, first = COUNT + records * RECORD;
        const uint64_t bytes = static_cast<uint64_t>(end - start);
        if (bytes < first) return;
        for (uint16_t i = 0; i < records; ++i) {
            heads += integer_at<uint32_t>(at + i * RECORD);
            bodies += integer_at<uint32_t>(at + i * RECORD + 4);
        }
        if (bytes != first + heads + bodies) return;
        left = count = records;
        head = start + first;
        body = head + heads;
    }

    // The next request; false after the last one, and for one that has parts or a malformed head.
    bool next(Request& request) {
        if (!left) return false;
        const char* const head_end = head + integer_at<uint32_t>(at);
        request.id = head;
        request.id_end = line_end(head, head_end);
        if (!request.id_end || integer_at<uint16_t>(at + 8)) return false;
        request.asked = request.asked_end = request.id_end + 1;
        for (int line = 0; line < 3; ++line) {
            request.asked_end = line_end(request.asked_end, head_end);
            if (!request.asked_end) return false;
            ++request.asked_end;
        }
        request.body = body;
        request.body_end = body + integer_at<uint32_t>(at + 4);
        head = head_end;
        body = request.body_end;
        at += RECORD;
        --left;
        return true;
    }

    uint16_t count = 0, left = 0;  // 0 for a malformed frame

  private:
    static const char* line_end(const char* from, const char* end) {
        if (from == end) return nullptr;
        return static_cast<const char*>(std::memchr(from, '\n', static_cast<size_t>(end - from)));
    }

    const char *at, *head = nullptr, *body = nullptr;
};

// Write the record of a reply.
inline void put_reply(char* at, uint16_t index, uint16_t status, uint32_t head, uint32_t body) {
    std::memcpy(at, &index, 2);
    std::memcpy(at + 2, &status, 2);
    std::memcpy(at + 4, &head, 4);
    std::memcpy(at + 8, &body, 4);
}

}  // namespace core
