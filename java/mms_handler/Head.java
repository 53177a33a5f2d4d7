package mms_handler;

import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.DefaultHttpHeaders;
import io.netty.handler.codec.http.EmptyHttpHeaders;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.util.AsciiString;
import java.nio.charset.StandardCharsets;

/**
 * A request's head by the letter of RFC 9112.  netty 4.1.91 also takes heads that the RFC does not
 * allow, and a proxy in front may read these differently: then a request can hide in another one.
 */
final class Head {
    /** netty's limits (HttpObjectDecoder), in bytes: of the request line, and of the fields. */
    static final int MAX_LINE = 4096;

    static final int MAX_FIELDS = 8192;

    /** A head has at most so many bytes: both limits, an empty line before and one after. */
    static final int MAX_BYTES = 2 + MAX_LINE + 2 + MAX_FIELDS + 2;

    private static final byte TOKEN = 1;
    private static final byte TARGET = 2;
    private static final byte TEXT = 4;
    private static final byte[] KINDS = kinds();

    /** Bytes of the body; none if it is chunked. */
    final long bodyBytes;

    final boolean chunked;

    /** Whether the client waits for 100 Continue before it sends the body. */
    final boolean expects;

    private final boolean http11;

    private Head(long bodyBytes, boolean chunked, boolean expects, boolean http11) {
        this.bodyBytes = bodyBytes;
        this.chunked = chunked;
        this.expects = expects;
        this.http11 = http11;
    }

    private static byte[] kinds() {
        byte[] kinds = new byte[256];
        for (int c = 0; c < 256; c++) {
            boolean visible = c > ' ' && c != 0x7f;
            boolean letter = c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9';
            kinds[c] |= letter || c < 128 && "!#$%&'*+-.^_`|~".indexOf(c) >= 0 ? TOKEN : 0;
            kinds[c] |= visible ? TARGET : 0;
            kinds[c] |= visible || c == ' ' || c == '\t' ? TEXT : 0;
        }
        return kinds;
    }

    static boolean isToken(int c) {
        return (KINDS[c & 0xff] & TOKEN) != 0;
    }

    /** Whether a field's value may have this byte: any but control characters. */
    static boolean isText(int c) {
        return (KINDS[c & 0xff] & TEXT) != 0;
    }

    /**
     * Where the head ends: behind its empty line; -1 if that is yet to come.
     *
     * @throws Malformed it has a control character, or a line does not end with CR and LF
     */
    static int end(byte[] bytes, int length) throws Malformed {
        int lineStart = 0;
        for (int i = 0; i < length; i++) {
            byte c = bytes[i];
            if (isText(c)) {
                continue;
            }
            if (c != '\r') {
                boolean lf = c == '\n';
                throw new Malformed(lf ? "a line ends with LF alone" : "a control character");
            }
            if (++i < length && bytes[i] != '\n') {
                throw new Malformed("a CR without LF");
            }
            if (i < length && i == lineStart + 1 && i > 1) {
                return i + 1;
            }
            lineStart = i + 1;
        }
        if (length > MAX_BYTES) {
            throw new Malformed(431, "the head is longer than " + MAX_FIELDS + " bytes");
        }
        return -1;
    }

    /**
     * Read what the head says about the body.
     *
     * @param end from {@link #end}
     * @throws Malformed the head is not by the RFC's letter; says in what
     */
    static Head parse(byte[] bytes, int end) throws Malformed {
        int line = bytes[0] == '\r' ? 2 : 0;
        int lineEnd = lineEnd(bytes, line);
        boolean http11 = requestLine(bytes, line, lineEnd);
        if (end - lineEnd > MAX_FIELDS + 4) {
            throw new Malformed(431, "the header fields have more than " + MAX_FIELDS + " bytes");
        }
        long length = -1;
        boolean chunked = false;
        boolean host = false;
        boolean type = false;
        boolean expects = false;
        for (line = lineEnd + 2; line < end - 2; line = lineEnd + 2) {
            lineEnd = lineEnd(bytes, line);
            int colon = line;
            while (isToken(bytes[colon])) {
                colon++;
            }
            if (colon == line || bytes[colon] != ':') {
                throw new Malformed("a header field is not NAME: VALUE");
            }
            if (matches(bytes, line, colon, "content-length")) {
                if (length >= 0) {
                    throw new Malformed("two Content-Length fields");
                }
                length = number(bytes, colon + 1, lineEnd);
            } else if (matches(bytes, line, colon, "transfer-encoding")) {
                if (chunked || !valueMatches(bytes, colon + 1, lineEnd, "chunked")) {
                    throw new Malformed("a Transfer-Encoding other than \"chunked\"");
                }
                chunked = true;
            } else if (matches(bytes, line, colon, "host")) {
                if (host) {
                    throw new Malformed("two Host fields");
                }
                host = true;
            } else if (matches(bytes, line, colon, "content-type")) {
                if (type) {
                    throw new Malformed("two Content-Type fields");
                }
                type = true;
            } else if (matches(bytes, line, colon, "expect")) {
                expects = true;
            }
        }
        if (chunked && length >= 0) {
            throw new Malformed("Transfer-Encoding and Content-Length in one request");
        }
        if (chunked && !http11) {
            throw new Malformed("Transfer-Encoding in HTTP/1.0");
        }
        if (http11 && !host) {
            throw new Malformed("no Host field");
        }
        return new Head(Math.max(0, length), chunked, expects, http11);
    }

    /**
     * The request with this head, as netty's decoder and aggregator would make it.
     *
     * @param head its bytes, which the request keeps
     */
    FullHttpRequest request(byte[] head, ByteBuf body) {
        int start = head[0] == '\r' ? 2 : 0;
        int target = indexOf(head, start, ' ') + 1;
        int version = indexOf(head, target, ' ') + 1;
        HttpHeaders headers = new DefaultHttpHeaders(false);
        for (int line = lineEnd(head, version) + 2; line < head.length - 2; ) {
            int colon = indexOf(head, line, ':');
            int end = lineEnd(head, colon);
            int first = valueStart(head, colon + 1, end);
            headers.add(
                    new AsciiString(head, line, colon - line, false),
                    new AsciiString(head, first, valueEnd(head, first, end) - first, false));
            line = end + 2;
        }
        if (!headers.contains(HttpHeaderNames.CONTENT_LENGTH)) {
            headers.set(HttpHeaderNames.CONTENT_LENGTH, "0");
        }
        return new DefaultFullHttpRequest(
                http11 ? HttpVersion.HTTP_1_1 : HttpVersion.HTTP_1_0,
                HttpMethod.valueOf(text(head, start, target - 1)),
                text(head, target, version - 1),
                body,
                headers,
                EmptyHttpHeaders.INSTANCE);
    }

    private static int indexOf(byte[] bytes, int start, char c) {
        int at = start;
        while (bytes[at] != c) {
            at++;
        }
        return at;
    }

    /** Check METHOD TARGET VERSION; tell whether the version is 1.1. */
    private static boolean requestLine(byte[] bytes, int start, int end) throws Malformed {
        if (end - start > MAX_LINE) {
            throw new Malformed(414, "the request line is longer than " + MAX_LINE + " bytes");
        }
        int target = start;
        while (isToken(bytes[target])) {
            target++;
        }
        int version = target + 1;
        while (version < end && (KINDS[bytes[version] & 0xff] & TARGET) != 0) {
            version++;
        }
        boolean apart = target > start && bytes[target] == ' ' && version > target + 1;
        if (!apart || version >= end || bytes[version] != ' ') {
            throw new Malformed("the request line is not METHOD TARGET VERSION");
        }
        boolean http11 = equal(bytes, version + 1, end, "HTTP/1.1");
        if (!http11 && !equal(bytes, version + 1, end, "HTTP/1.0")) {
            String text = text(bytes, version + 1, end);
            boolean known = text.matches("HTTP/\\d\\.\\d");
            throw known
                    ? new Malformed(505, text + " is not supported, HTTP/1.1 is")
                    : new Malformed("the request line does not end with HTTP/1.1");
        }
        if (bytes[target + 1] != '/') {
            checkTarget(text(bytes, start, target), text(bytes, target + 1, version));
        }
        return http11;
    }

    private static boolean equal(byte[] bytes, int start, int end, String text) {
        boolean equal = end - start == text.length();
        for (int i = 0; equal && i < text.length(); i++) {
            equal = bytes[start + i] == text.charAt(i);
        }
        return equal;
    }

    /** A target that is no path must be a URL with a host, or the * of OPTIONS. */
    private static void checkTarget(String method, String target) throws Malformed {
        boolean star = target.equals("*") && method.equals("OPTIONS");
        if (!star && !target.matches("(?i)https?://[\\w\\[].*")) {
            throw new Malformed("the request's target is no path");
        }
    }

    private static String text(byte[] bytes, int start, int end) {
        return new String(bytes, start, end - start, StandardCharsets.ISO_8859_1);
    }

    /** Where a line of a complete head ends: at its CR. */
    private static int lineEnd(byte[] bytes, int start) {
        return indexOf(bytes, start, '\r');
    }

    /** @param name in lower case */
    private static boolean matches(byte[] bytes, int start, int end, String name) {
        if (end - start != name.length()) {
            return false;
        }
        for (int i = 0; i < name.length(); i++) {
            int c = bytes[start + i];
            if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != name.charAt(i)) {
                return false;
            }
        }
        return true;
    }

    private static boolean valueMatches(byte[] bytes, int start, int end, String value) {
        int first = valueStart(bytes, start, end);
        return matches(bytes, first, valueEnd(bytes, first, end), value);
    }

    private static int valueStart(byte[] bytes, int start, int end) {
        int first = start;
        while (first < end && (bytes[first] == ' ' || bytes[first] == '\t')) {
            first++;
        }
        return first;
    }

    private static int valueEnd(byte[] bytes, int start, int end) {
        int last = end;
        while (last > start && (bytes[last - 1] == ' ' || bytes[last - 1] == '\t')) {
            last--;
        }
        return last;
    }

    private static long number(byte[] bytes, int start, int end) throws Malformed {
        int first = valueStart(bytes, start, end);
        int last = valueEnd(bytes, first, end);
        long number = 0;
        for (int i = first; i < last; i++) {
            if (bytes[i] < '0' || bytes[i] > '9') {
                throw new Malformed("Content-Length is not a number");
            }
            number = 10 * number + bytes[i] - '0';
        }
        if (last == first || last - first > 18) {
            throw new Malformed("Content-Length is not a number");
        }
        return number;
    }
}
