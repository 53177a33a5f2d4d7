package mms_handler;

import com.amazonaws.ml.mms.http.StatusResponse;
import com.amazonaws.ml.mms.util.JsonUtils;
import java.io.IOException;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/** /ping, with MMS's words and a status that agrees: 503 unless requests can be served. */
@Endpoint(urlPattern = "ping", endpointType = EndpointTypes.INFERENCE)
public final class Ping extends GetEndpoint {
    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        Workers.Health health = Workers.health();
        String body = JsonUtils.GSON_PRETTY.toJson(new StatusResponse(health.text)) + "\n";
        send(response, health.status, "application/json", body);
    }
}
