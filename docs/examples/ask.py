import mms_handler

model = mms_handler.load("model_archives/gluon_blocks")
reply = model.answer("5.1,3.5,1.4,0.2", content_type="text/csv")
print(reply.status, reply.body.decode())
