package mms_handler;

import com.amazonaws.ml.mms.http.ServiceUnavailableException;
import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.embedded.EmbeddedChannel;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponseDecoder;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.commons.io.IOUtils;

/** Forwards management requests, which register, list and remove models, to the supervisor. */
@Sharable
final class Forward extends ChannelInboundHandlerAdapter {
    private static final byte[] LOOPBACK = {127, 0, 0, 1};

    /** Headers that are passed on, with the names that they get. */
    private static final Map<String, String> PASSED = passed();

    /** Methods that may be sent again if no answer comes. */
    private static final List<String> REPEATABLE = Arrays.asList("GET", "PUT");

    /** The supervisor answers 405 to the last two. */
    private static final List<String> METHODS =
            Arrays.asList("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH");

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        FullHttpRequest request = (FullHttpRequest) message;
        boolean supported = METHODS.contains(request.method().name());
        if (!supported || !Target.of(request.uri()).isManagement()) {
            context.fireChannelRead(request);
            return;
        }
        NettyUtils.requestReceived(context.channel(), request);
        byte[] body = ByteBufUtil.getBytes(request.content());
        request.release();
        ModelManager.getInstance().submitTask(() -> respond(context, request, body));
    }

    private static void respond(
            ChannelHandlerContext context, FullHttpRequest request, byte[] body) {
        try {
            NettyUtils.sendHttpResponse(context, forward(request, body), true);
        } catch (IOException | RuntimeException e) {
            Plugin.LOG.error("serve did not answer a management request", e);
            NettyUtils.sendError(
                    context,
                    HttpResponseStatus.SERVICE_UNAVAILABLE,
                    new ServiceUnavailableException("models cannot be managed now; try again later"));
        }
    }

    private static FullHttpResponse forward(FullHttpRequest request, byte[] body)
            throws IOException {
        try {
            return ask(request, body);
        } catch (IOException e) {
            if (!REPEATABLE.contains(request.method().name())) {
                throw e;
            }
            return ask(request, body);
        }
    }

    /**
     * Each request has a connection of its own. HttpURLConnection keeps connections, even if it
     * asked to close them: a POST was sent on one that serve was about to close.
     */
    private static FullHttpResponse ask(FullHttpRequest request, byte[] body) throws IOException {
        try (Socket socket = new Socket(InetAddress.getByAddress(LOOPBACK), Plugin.ADMIN_PORT)) {
            OutputStream out = socket.getOutputStream();
            out.write(head(request, body.length).getBytes(StandardCharsets.ISO_8859_1));
            out.write(body);
            return answer(IOUtils.toByteArray(socket.getInputStream()));
        }
    }

    private static String head(FullHttpRequest request, int length) {
        StringBuilder head = new StringBuilder();
        head.append(request.method()).append(' ').append(request.uri()).append(" HTTP/1.1\r\n");
        head.append("Host: localhost\r\nConnection: close\r\n");
        head.append("Content-Length: ").append(length).append("\r\n");
        PASSED.forEach((name, as) -> pass(request, name, as, head));
        return head.append("\r\n").toString();
    }

    private static void pass(FullHttpRequest request, String name, String as, StringBuilder head) {
        for (String value : request.headers().getAll(name)) {
            head.append(as).append(": ").append(value).append("\r\n");
        }
    }

    private static FullHttpResponse answer(byte[] bytes) throws IOException {
        EmbeddedChannel channel =
                new EmbeddedChannel(
                        new HttpResponseDecoder(), new HttpObjectAggregator(bytes.length + 1));
        channel.writeInbound(Unpooled.wrappedBuffer(bytes));
        channel.finish();
        FullHttpResponse answer = channel.readInbound();
        if (answer == null || answer.decoderResult().isFailure()) {
            throw new IOException("the answer has only " + bytes.length + " bytes");
        }
        answer.headers().remove(HttpHeaderNames.CONNECTION);
        answer.headers().remove(HttpHeaderNames.SERVER);
        answer.headers().remove(HttpHeaderNames.DATE);
        return answer;
    }

    private static Map<String, String> passed() {
        Map<String, String> names = new HashMap<>();
        names.put("Content-Type", "Content-Type");
        names.put("Authorization", "Authorization");
        names.put("Host", "X-Forwarded-Host");
        names.put("Origin", "X-Forwarded-Origin");
        return names;
    }
}
