package mms_handler;

import io.netty.handler.codec.http.HttpRequest;
import io.netty.util.AsciiString;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;

/** The id that a client gives to its request.  MMS makes one for each request that has none. */
final class RequestId {
    static final AsciiString HEADER = AsciiString.cached("x-request-id");

    private static final int MAX_LENGTH = 128;

    private RequestId() {}

    /** A new one; it need not be hard to guess. */
    static String next() {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        long high = random.nextLong() & ~0xf000L | 0x4000L; // the version of a random UUID
        long low = random.nextLong() >>> 2 | Long.MIN_VALUE; // its variant
        return new UUID(high, low).toString();
    }

    /** The client's id; null if it sent none.  What is no id is removed, so that nobody reads it. */
    static String take(HttpRequest request) {
        if (!request.headers().contains(HEADER)) {
            return null;
        }
        List<String> values = request.headers().getAll(HEADER);
        if (values.size() == 1 && isId(values.get(0))) {
            return values.get(0);
        }
        request.headers().remove(HEADER);
        return null;
    }

    /** Whether a text is printable ASCII, of a length that a line of the log has room for. */
    private static boolean isId(String text) {
        return !text.isEmpty()
                && text.length() <= MAX_LENGTH
                && text.chars().allMatch(c -> c >= ' ' && c <= '~');
    }
}
