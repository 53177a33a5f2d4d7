package mms_handler;

import io.netty.buffer.ByteBuf;
import io.netty.util.AsciiString;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Text in Latin-1 that is gathered in an array. netty writes text to buffers letter by letter, each
 * with calls of its own.
 */
final class Text {
    private byte[] bytes;
    private int length;

    /** @param size how many bytes it probably has */
    Text(int size) {
        bytes = new byte[size];
    }

    int length() {
        return length;
    }

    void clear() {
        length = 0;
    }

    /** Append a text and what ends it. */
    void put(CharSequence text, byte[] end) {
        int size = text.length();
        if (length + size + end.length > bytes.length) {
            bytes = Arrays.copyOf(bytes, 2 * (length + size + end.length));
        }
        if (text instanceof AsciiString) {
            AsciiString ascii = (AsciiString) text;
            System.arraycopy(ascii.array(), ascii.arrayOffset(), bytes, length, size);
        } else {
            byte[] latin = text.toString().getBytes(StandardCharsets.ISO_8859_1);
            System.arraycopy(latin, 0, bytes, length, size);
        }
        System.arraycopy(end, 0, bytes, length + size, end.length);
        length += size + end.length;
    }

    void writeTo(ByteBuf out) {
        out.writeBytes(bytes, 0, length);
    }
}
