package mms_handler;

import com.amazonaws.ml.mms.util.JsonUtils;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import java.io.IOException;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The paths that the gate answers itself: / and, if there is one, the page for people. The supervisor
 * lists them with their files, so no path of a client is ever the path of a file.
 */
final class Pages {
    /** By path; of several with one path the first is the default. */
    private static final Map<String, List<Resource>> BY_PATH = listed();

    private Pages() {}

    /** Read the list; end Java if that is impossible. */
    static void start() {}

    /** Whether the request is for what everybody may read, without a token. */
    static boolean isOpen(HttpRequest request) {
        Resource page = find(request);
        return page != null && page.open;
    }

    /** The reply to this request; null if it is for somebody else. */
    static HttpResponse reply(HttpRequest request) {
        Resource page = find(request);
        return page == null ? null : page.reply(request.headers().get(HttpHeaderNames.IF_NONE_MATCH));
    }

    private static Resource find(HttpRequest request) {
        boolean get = request.method().equals(HttpMethod.GET);
        if (BY_PATH.isEmpty() || !get && !request.method().equals(HttpMethod.HEAD)) {
            return null;
        }
        String path = request.uri().split("\\?", 2)[0];
        List<Resource> pages = BY_PATH.getOrDefault(path, Collections.emptyList());
        String accept = String.join(",", request.headers().getAll(HttpHeaderNames.ACCEPT));
        for (Resource page : pages) {
            if (accept.contains(page.headers.getOrDefault("Content-Type", "-").split(";")[0])) {
                return page;
            }
        }
        return pages.isEmpty() ? null : pages.get(0);
    }

    private static Map<String, List<Resource>> listed() {
        Map<String, List<Resource>> byPath = new HashMap<>();
        if (Plugin.PAGES != null) {
            Path list = Paths.get(Plugin.PAGES);
            try (Reader reader = Files.newBufferedReader(list, StandardCharsets.UTF_8)) {
                for (Resource page : JsonUtils.GSON.fromJson(reader, Resource[].class)) {
                    page.load(list.getParent());
                    byPath.computeIfAbsent(page.path, path -> new ArrayList<>()).add(page);
                }
            } catch (IOException | RuntimeException e) {
                System.err.printf("the pages cannot be read: %s%n", e);
                Runtime.getRuntime().halt(1);
            }
        }
        return byPath;
    }

    /** Where a page's text comes from. */
    private enum Kind {
        /** A file, read once. */
        file,
        /** A file that the supervisor replaces now and then. */
        changing,
        /** The gate's own counts. */
        live,
        /** There is none: it is elsewhere. */
        moved
    }

    /** One line of the list; Gson sets the fields above the blank line. */
    private static final class Resource {
        String path;
        Kind kind;
        String file;
        boolean open;
        Map<String, String> headers;

        private transient Path source;
        private transient byte[] bytes;

        void load(Path folder) throws IOException {
            source = file == null ? null : folder.resolve(file);
            bytes = kind == Kind.file ? Files.readAllBytes(source) : new byte[0];
        }

        FullHttpResponse reply(String knownTag) {
            if (kind == Kind.moved) {
                return response(HttpResponseStatus.TEMPORARY_REDIRECT, new byte[0]);
            }
            byte[] current;
            try {
                current = current();
            } catch (IOException e) {
                return Checks.error(HttpResponseStatus.SERVICE_UNAVAILABLE, "it is not there yet");
            }
            String tag = "\"" + Integer.toHexString(Arrays.hashCode(current)) + current.length + "\"";
            boolean known = kind != Kind.live && tag.equals(knownTag);
            FullHttpResponse reply =
                    known
                            ? response(HttpResponseStatus.NOT_MODIFIED, new byte[0])
                            : response(HttpResponseStatus.OK, current);
            reply.headers().set(HttpHeaderNames.ETAG, tag);
            return reply;
        }

        private byte[] current() throws IOException {
            switch (kind) {
                case changing:
                    return Files.readAllBytes(source);
                case live:
                    return Live.json().getBytes(StandardCharsets.UTF_8);
                default:
                    return bytes;
            }
        }

        private FullHttpResponse response(HttpResponseStatus status, byte[] body) {
            ByteBuf content = Unpooled.wrappedBuffer(body);
            FullHttpResponse reply =
                    new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, content);
            headers.forEach(reply.headers()::set);
            if (status != HttpResponseStatus.NOT_MODIFIED) {
                HttpUtil.setContentLength(reply, body.length);
            }
            return reply;
        }
    }
}
