# The processes of the Procfile, for compose.yaml. Third-party packages that your functions import belong in here, too:
# make an image of your own that begins with this one and installs them.
FROM python:3.12-slim

COPY . /tmp/qmodal
RUN pip install --no-cache-dir -c /tmp/qmodal/constraints.txt "/tmp/qmodal[web]" \
    && rm -rf /tmp/qmodal \
    && useradd --create-home qmodal

USER qmodal
WORKDIR /home/qmodal
ENV PYTHONUNBUFFERED=1
CMD ["qmodal", "--help"]
