package mms_handler;

import com.amazonaws.ml.mms.http.ServiceUnavailableException;
import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpVersion;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.Proxy;
import java.net.URL;
import java.util.Arrays;
import java.util.List;
import org.apache.commons.io.IOUtils;

/** Forwards management requests, which register, list and remove models, to the supervisor. */
@Sharable
final class Forward extends ChannelInboundHandlerAdapter {
    private static final List<String> METHODS = Arrays.asList("GET", "POST", "PUT", "DELETE");

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        FullHttpRequest request = (FullHttpRequest) message;
        boolean supported = METHODS.contains(request.method().name());
        if (!supported || !new Target(request.uri()).isManagement()) {
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
        URL url = new URL("http", "127.0.0.1", Plugin.ADMIN_PORT, request.uri());
        HttpURLConnection connection = (HttpURLConnection) url.openConnection(Proxy.NO_PROXY);
        connection.setInstanceFollowRedirects(false);
        connection.setRequestMethod(request.method().name());
        connection.setRequestProperty("Connection", "close");
        String type = request.headers().get(HttpHeaderNames.CONTENT_TYPE);
        if (type != null) {
            connection.setRequestProperty("Content-Type", type);
        }
        if (body.length > 0 && !request.method().equals(HttpMethod.GET)) {
            connection.setDoOutput(true);
            connection.setFixedLengthStreamingMode(body.length); // never send it twice
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body);
            }
        }
        return answer(connection);
    }

    private static FullHttpResponse answer(HttpURLConnection connection) throws IOException {
        int status = connection.getResponseCode();
        InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream();
        FullHttpResponse answer =
                new DefaultFullHttpResponse(
                        HttpVersion.HTTP_1_1,
                        HttpResponseStatus.valueOf(status),
                        Unpooled.wrappedBuffer(in == null ? new byte[0] : IOUtils.toByteArray(in)));
        if (connection.getContentType() != null) {
            answer.headers().set(HttpHeaderNames.CONTENT_TYPE, connection.getContentType());
        }
        return answer;
    }
}
