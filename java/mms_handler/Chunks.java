package mms_handler;

import io.netty.buffer.ByteBuf;

/** The frame of one chunked body, byte by byte: sizes, extensions, line ends and trailer fields. */
final class Chunks {
    private static final int MAX_LINE = 256;

    private enum State {
        SIZE,
        EXTENSION,
        SIZE_LF,
        DATA,
        DATA_CR,
        DATA_LF,
        FIELD,
        NAME,
        VALUE,
        VALUE_LF,
        END_LF,
        ENDED
    }

    private State state = State.SIZE;
    private int digits;
    private long dataBytes;

    /** Bytes of the current line, or of all trailer fields. */
    private int lineBytes;

    private boolean quoted;
    private boolean escaped;

    boolean ended() {
        return state == State.ENDED;
    }

    /**
     * Follow the body as far as it goes.
     *
     * @return where the body, or what there is of it, ends
     * @throws Malformed the frame has an error; says which
     */
    int follow(ByteBuf bytes, int start) throws Malformed {
        int at = start;
        while (at < bytes.writerIndex() && state != State.ENDED) {
            if (state == State.DATA) {
                long part = Math.min(dataBytes, bytes.writerIndex() - at);
                at += (int) part;
                dataBytes -= part;
                state = dataBytes == 0 ? State.DATA_CR : State.DATA;
            } else {
                state = next(bytes.getByte(at++));
            }
        }
        return at;
    }

    private State next(byte c) throws Malformed {
        switch (state) {
            case SIZE:
                return size(c);
            case EXTENSION:
                return extension(c);
            case SIZE_LF:
                expect(c, '\n', "a chunk's line does not end with CR and LF");
                return dataBytes == 0 ? State.FIELD : State.DATA;
            case DATA_CR:
                expect(c, '\r', "a chunk is longer than its size");
                return State.DATA_LF;
            case DATA_LF:
                expect(c, '\n', "a chunk does not end with CR and LF");
                digits = 0;
                lineBytes = 0;
                return State.SIZE;
            default:
                return trailer(c);
        }
    }

    private static void expect(byte c, char expected, String otherwise) throws Malformed {
        if (c != expected) {
            throw new Malformed(otherwise);
        }
    }

    private State size(byte c) throws Malformed {
        int digit = c < 0 ? -1 : Character.digit(c, 16);
        if (digit >= 0 && digits < 8) {
            dataBytes = 16 * (digits++ == 0 ? 0 : dataBytes) + digit;
            return State.SIZE;
        }
        if (digits == 0 || digit >= 0 || dataBytes > Integer.MAX_VALUE) {
            throw new Malformed("a chunk's size is not a hexadecimal number");
        }
        return c == ';' ? State.EXTENSION : sizeEnd(c);
    }

    private static State sizeEnd(byte c) throws Malformed {
        expect(c, '\r', "a chunk's size is followed by something else than CR and LF");
        return State.SIZE_LF;
    }

    private State extension(byte c) throws Malformed {
        if (++lineBytes > MAX_LINE) {
            throw new Malformed("a chunk's extension is longer than " + MAX_LINE + " bytes");
        }
        if (c == '\r' && !quoted) {
            return State.SIZE_LF;
        }
        if (!Head.isText(c)) {
            throw new Malformed("a line end or control character in a chunk's extension");
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        return State.EXTENSION;
    }

    private State trailer(byte c) throws Malformed {
        if (++lineBytes > Head.MAX_FIELDS) {
            throw new Malformed(431, "the trailer has more than " + Head.MAX_FIELDS + " bytes");
        }
        switch (state) {
            case FIELD:
                if (c == '\r') {
                    return State.END_LF;
                }
                return name(c);
            case NAME:
                return c == ':' ? State.VALUE : name(c);
            case VALUE:
                if (c != '\r' && !Head.isText(c)) {
                    throw new Malformed("a control character in a trailer field");
                }
                return c == '\r' ? State.VALUE_LF : State.VALUE;
            default:
                expect(c, '\n', "a trailer field does not end with CR and LF");
                return state == State.END_LF ? State.ENDED : State.FIELD;
        }
    }

    private static State name(byte c) throws Malformed {
        if (!Head.isToken(c)) {
            throw new Malformed("a trailer field is not NAME: VALUE");
        }
        return State.NAME;
    }
}
