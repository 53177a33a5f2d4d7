package mms_handler;

import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;

/** A captured prediction as a line of JSON, in the format of SageMaker's data capture. */
final class CaptureLine {
    /** The headers of requests that are kept: none in which a token could be. */
    static final String[] HEADERS = {
        "Accept", "Content-Encoding", "Content-Type", OpenInference.HEADER_LENGTH, "traceparent"
    };

    private static final DateTimeFormatter SECONDS =
            DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss'Z'").withZone(ZoneOffset.UTC);

    private static final DateTimeFormatter MILLISECONDS =
            DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

    private static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);

    private final OutputStream out;

    CaptureLine(OutputStream out) {
        this.out = out;
    }

    void write(Capture capture) throws IOException {
        Instant time = Instant.ofEpochMilli(capture.startMs);
        raw("{\"captureData\":{\"endpointInput\":");
        body(capture.input, "INPUT");
        raw(",\"endpointOutput\":");
        body(capture.output, "OUTPUT");
        raw("},\"eventMetadata\":{\"eventId\":");
        text(capture.requestId);
        if (capture.inferenceId != null) {
            raw(",\"inferenceId\":");
            text(capture.inferenceId);
        }
        raw(",\"inferenceTime\":\"" + SECONDS.format(time) + "\"},\"eventVersion\":\"0\"");
        raw(",\"mmsHandler\":{\"time\":\"" + MILLISECONDS.format(time) + "\",\"model\":");
        text(capture.model);
        raw(",\"version\":");
        text(capture.version);
        if (capture.tensors) {
            raw(",\"protocol\":\"v2\"");
        }
        raw(",\"status\":" + capture.status + ",\"latencyMs\":");
        raw(String.valueOf(capture.latencyNs / 1000 / 1000.0));
        raw(",\"headers\":{");
        for (int i = 0; i < capture.headers.size(); i += 2) {
            raw(i == 0 ? "" : ",");
            text(capture.headers.get(i));
            raw(":");
            text(capture.headers.get(i + 1));
        }
        raw("}");
        if (capture.replyHeaderLength != null) {
            raw(",\"replyHeaders\":{\"" + OpenInference.HEADER_LENGTH + "\":");
            text(capture.replyHeaderLength);
            raw("}");
        }
        raw("}}\n");
    }

    private void body(Capture.Body body, String mode) throws IOException {
        raw("{\"observedContentType\":");
        text(body.observedType);
        raw(",\"mode\":\"" + mode + "\"");
        if (body.kept) {
            String encoding = encoding(body);
            raw(",\"data\":");
            if (encoding.equals("BASE64")) {
                raw("\"");
                OutputStream letters = Base64.getEncoder().wrap(new Open(out));
                letters.write(body.bytes(), 0, body.length());
                letters.close(); // writes the last ones
                raw("\"");
            } else {
                quoted(body.bytes(), body.length());
            }
            raw(",\"encoding\":\"" + encoding + "\"");
        }
        raw("}");
    }

    /** JSON or CSV for text of these types in UTF-8. */
    private static String encoding(Capture.Body body) {
        String main = body.type;
        String encoding =
                main.endsWith("json") || main.endsWith("jsonlines")
                        ? "JSON"
                        : main.equals("text/csv") ? "CSV" : "BASE64";
        return isUtf8(body) ? encoding : "BASE64";
    }

    private static boolean isUtf8(Capture.Body body) {
        byte[] bytes = body.bytes();
        int length = body.length();
        int at = 0;
        while (at < length && bytes[at] >= 0) {
            at++;
        }
        if (at == length) {
            return true; // ASCII, as most bodies are
        }
        ByteBuffer rest = ByteBuffer.wrap(bytes, at, length - at);
        CharBuffer some = CharBuffer.allocate(1024);
        CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
        CoderResult result = CoderResult.OVERFLOW;
        while (result.isOverflow()) {
            some.clear();
            result = decoder.decode(rest, some, true);
        }
        return !result.isError();
    }

    /** Stays open when a stream around it is closed. */
    private static final class Open extends FilterOutputStream {
        Open(OutputStream out) {
            super(out);
        }

        @Override
        public void write(byte[] from, int at, int length) throws IOException {
            out.write(from, at, length);
        }

        @Override
        public void close() {}
    }

    private void raw(String ascii) throws IOException {
        byte[] bytes = ascii.getBytes(StandardCharsets.US_ASCII);
        out.write(bytes, 0, bytes.length);
    }

    private void text(String text) throws IOException {
        if (text == null) {
            raw("null");
        } else {
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            quoted(bytes, bytes.length);
        }
    }

    /** Write UTF-8 as a text of JSON. */
    private void quoted(byte[] bytes, int length) throws IOException {
        out.write('"');
        for (int i = 0; i < length; i++) {
            byte c = bytes[i];
            if (c == '"' || c == '\\') {
                out.write('\\');
                out.write(c);
            } else if (c >= 0 && c < ' ') {
                escape(c);
            } else {
                out.write(c);
            }
        }
        out.write('"');
    }

    private void escape(byte c) throws IOException {
        out.write('\\');
        if (c == '\n' || c == '\r' || c == '\t') {
            out.write(c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
            return;
        }
        raw("u00");
        out.write(HEX[c >> 4]);
        out.write(HEX[c & 15]);
    }
}
