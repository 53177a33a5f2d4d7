package mms_handler;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.ModelServerEndpoint;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/** An endpoint that answers GET with a text, and other methods with 405. */
abstract class GetEndpoint extends ModelServerEndpoint {
    GetEndpoint() {
        Plugin.start();
    }

    static void send(Response response, int status, String type, String text) throws IOException {
        response.setStatus(status);
        response.setContentType(type);
        response.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
    }

    @Override
    public void doPost(Request request, Response response, Context context) {
        response.setStatus(405);
        response.setHeader("Allow", "GET");
    }

    @Override
    public void doPut(Request request, Response response, Context context) {
        doPost(request, response, context);
    }

    @Override
    public void doDelete(Request request, Response response, Context context) {
        doPost(request, response, context);
    }
}
