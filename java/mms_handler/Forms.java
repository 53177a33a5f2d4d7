package mms_handler;

import com.amazonaws.ml.mms.http.BadRequestException;
import com.amazonaws.ml.mms.util.NettyUtils;
import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.multipart.DefaultHttpDataFactory;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder.EndOfDataDecoderException;
import io.netty.util.ByteProcessor;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Bounds what a form can cost.  netty 4.1.91 decodes forms on the thread that serves the other
 * connections, and its time and memory grow with the parts, without a limit (CVE-2024-29025).
 */
@Sharable
final class Forms extends ChannelInboundHandlerAdapter {
    /** The handler takes forms of one part; others may take more. */
    private static final int MAX_PARTS = 100;

    private static final int MAX_NAME = 256;
    private static final int MAX_HEADERS = 4096;

    private static final String MULTIPART = HttpHeaderValues.MULTIPART_FORM_DATA.toString();
    private static final String URLENCODED =
            HttpHeaderValues.APPLICATION_X_WWW_FORM_URLENCODED.toString();

    private static final Pattern BOUNDARY =
            Pattern.compile(";\\s*boundary=(?:\"([^\"]+)\"|([^\";\\s]+))", Pattern.CASE_INSENSITIVE);
    private static final Pattern NAME =
            Pattern.compile(";\\s*name=(?:\"([^\"]*)\"|([^\";\\s]*))", Pattern.CASE_INSENSITIVE);

    private static final String NO_FORM =
            "; the Content-Type is a form's, which is curl's default; for JSON add "
                    + "-H 'Content-Type: application/json'";

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        FullHttpRequest request = (FullHttpRequest) message;
        try {
            check(request);
        } catch (Malformed e) {
            NettyUtils.requestReceived(context.channel(), request);
            request.release();
            HttpResponseStatus status = HttpResponseStatus.valueOf(e.status);
            NettyUtils.sendError(context, status, new BadRequestException(e.getMessage()));
            return;
        }
        context.fireChannelRead(request);
    }

    /** By the same tests as MMS's InferenceRequestHandler. */
    private static void check(FullHttpRequest request) throws Malformed {
        if (!isForm(request)) {
            return;
        }
        ByteBuf body = request.content();
        if (HttpPostRequestDecoder.isMultipart(request)) {
            Parts parts = new Parts(boundary(request.headers().get(HttpHeaderNames.CONTENT_TYPE)));
            parts.check(body);
        } else {
            new Fields().check(body);
        }
        tryDecoding(request);
    }

    /** Whether MMS decodes the body as a form. */
    static boolean isForm(HttpRequest request) {
        String type = request.headers().get(HttpHeaderNames.CONTENT_TYPE);
        return type != null
                && (type.regionMatches(true, 0, MULTIPART, 0, MULTIPART.length())
                                && HttpPostRequestDecoder.isMultipart(request)
                        || type.regionMatches(true, 0, URLENCODED, 0, URLENCODED.length())
                                && URLENCODED.equalsIgnoreCase(
                                        HttpUtil.getMimeType(type).toString()));
    }

    /** What netty cannot decode is a client's mistake, which MMS would answer with 500. */
    private static void tryDecoding(FullHttpRequest request) throws Malformed {
        FullHttpRequest copy = request.replace(request.content().duplicate());
        HttpPostRequestDecoder form = null;
        try {
            form = new HttpPostRequestDecoder(new DefaultHttpDataFactory(false), copy);
            while (form.hasNext()) {
                form.next();
            }
        } catch (EndOfDataDecoderException e) {
            return; // all parts are read
        } catch (RuntimeException e) {
            throw new Malformed("the form cannot be decoded: " + e.getMessage());
        } finally {
            if (form != null) {
                form.destroy();
            }
        }
    }

    private static String boundary(String type) throws Malformed {
        Matcher match = BOUNDARY.matcher(type);
        if (!match.find()) {
            throw new Malformed("the form's Content-Type has no boundary");
        }
        return match.group(1) == null ? match.group(2) : match.group(1);
    }

    private static void count(int parts) throws Malformed {
        if (parts > MAX_PARTS) {
            throw new Malformed(413, "the form has more than " + MAX_PARTS + " parts");
        }
    }

    /** Reads a body byte by byte; {@link #next} may fail. */
    private abstract static class Reader implements ByteProcessor {
        private Malformed error;

        abstract void next(byte c) throws Malformed;

        @Override
        public boolean process(byte c) {
            try {
                next(c);
                return true;
            } catch (Malformed e) {
                error = e;
                return false;
            }
        }

        void read(ByteBuf body) throws Malformed {
            body.forEachByte(this);
            if (error != null) {
                throw error;
            }
        }
    }

    /** NAME=VALUE&NAME=VALUE */
    private static final class Fields extends Reader {
        private int parts = 1;
        private int nameBytes;
        private boolean inValue;

        void check(ByteBuf body) throws Malformed {
            try {
                read(body);
            } catch (Malformed e) {
                throw new Malformed(e.status, e.getMessage() + NO_FORM);
            }
        }

        @Override
        void next(byte c) throws Malformed {
            if (c == '&') {
                nameEnds();
                count(++parts);
                nameBytes = 0;
                inValue = false;
            } else if (c == '=' && !inValue) {
                nameEnds();
                inValue = true;
            } else if (!inValue) {
                nameBytes++;
            }
        }

        /** A body that is no form at all may consist of one long name: it is only refused later. */
        private void nameEnds() throws Malformed {
            if (!inValue && nameBytes > MAX_NAME) {
                throw new Malformed("a name in the form is longer than " + MAX_NAME + " bytes");
            }
        }
    }

    /** The parts of multipart/form-data, between delimiters: CR LF and "--BOUNDARY". */
    private static final class Parts extends Reader {
        private enum State {
            BEFORE,
            DELIMITER,
            DELIMITER_LF,
            END,
            HEADERS,
            DATA,
            AFTER
        }

        private final byte[] delimiter;
        private final StringBuilder headers = new StringBuilder();
        private State state = State.BEFORE;
        private int parts;

        /** How much of the delimiter has been read; from its LF on, which is its only one. */
        private int matched = 1;

        /** Whether that LF followed a CR. */
        private boolean afterCr = true;

        private byte previous = '\r';

        Parts(String boundary) {
            delimiter = ("\n--" + boundary).getBytes(StandardCharsets.ISO_8859_1);
        }

        void check(ByteBuf body) throws Malformed {
            read(body);
            if (state != State.AFTER) {
                throw new Malformed("the form has no end");
            }
        }

        @Override
        void next(byte c) throws Malformed {
            switch (state) {
                case BEFORE:
                    if (!match(c) && matched == 0 && c != '\r') {
                        throw new Malformed("the form does not begin with its boundary");
                    }
                    break;
                case DATA:
                    match(c);
                    break;
                case DELIMITER:
                    expect(c == '\r' || c == '-', "a boundary is followed by something else");
                    state = c == '\r' ? State.DELIMITER_LF : State.END;
                    break;
                case DELIMITER_LF:
                    expect(c == '\n', "a boundary's line does not end with CR and LF");
                    count(++parts);
                    headers.setLength(0);
                    state = State.HEADERS;
                    break;
                case END:
                    expect(c == '-', "a boundary is followed by something else");
                    state = State.AFTER;
                    break;
                case HEADERS:
                    header(c);
                    break;
                default:
            }
            previous = c;
        }

        private static void expect(boolean right, String otherwise) throws Malformed {
            if (!right) {
                throw new Malformed(otherwise);
            }
        }

        /** netty takes LF alone for a delimiter's line end, too. */
        private boolean match(byte c) throws Malformed {
            matched = c == delimiter[matched] ? matched + 1 : c == '\n' ? 1 : 0;
            if (matched == 1) {
                afterCr = previous == '\r';
            }
            if (matched == delimiter.length) {
                expect(afterCr, "a boundary's line begins with LF alone");
                matched = 0;
                state = State.DELIMITER;
                return true;
            }
            return matched > 0;
        }

        private void header(byte c) throws Malformed {
            expect(c != '\n' || previous == '\r', "a line of a part's header ends with LF alone");
            headers.append((char) (c & 0xff));
            expect(headers.length() <= MAX_HEADERS, "a part's header is longer than 4096 bytes");
            int length = headers.length();
            if (c == '\n' && (length == 2 || headers.charAt(length - 3) == '\n')) {
                expect(isName(), "a part has no name, or one of more than 256 bytes");
                expect(
                        !headers.toString().toLowerCase().contains("multipart/mixed"),
                        "a part of the form is a form itself");
                matched = 1; // a part may be empty: its delimiter follows at once
                afterCr = true;
                state = State.DATA;
            }
        }

        private boolean isName() {
            Matcher match = NAME.matcher(headers);
            boolean named = match.find();
            String name = named && match.group(1) != null ? match.group(1) : named ? match.group(2) : "";
            return named && name.length() <= MAX_NAME;
        }
    }
}
