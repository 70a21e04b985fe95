# The image of Hexcache: `docker build -t hexcache .`

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
# Two secrets for those who need them, nothing for everybody else: a pip.conf (an index of your
# own) and a CA (a proxy that opens TLS). Neither is left in a layer.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    python3 -m venv --without-pip /opt/hexcache \
    && pip --python /opt/hexcache/bin/python install --disable-pip-version-check \
      --root-user-action ignore --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY addon addon
# Then what never runs goes: the build tool, what only mitmproxy's own screens and rich's listings of
# code need, the second of zstandard's two backends (12 MB), and mitmweb's pages.
RUN pip --python /opt/hexcache/bin/python install --disable-pip-version-check \
      --root-user-action ignore --no-cache-dir --no-deps --no-build-isolation . \
    && pip --python /opt/hexcache/bin/python uninstall --yes --root-user-action ignore \
      setuptools pygments tornado urwid wcwidth \
    && cd /opt/hexcache/lib/python3.*/site-packages \
    && rm -rf zstandard/_cffi*.so mitmproxy/tools/web/static \
    && install -d -m 1777 /volumes/data /volumes/ca

FROM python:3.13-slim
COPY --from=build /opt/hexcache /opt/hexcache
# An empty volume takes its owner and mode from here: 1777, so that `--user` can be anybody. What
# Hexcache makes inside is its own user's alone. A proxy.yaml, if there is one, is looked for in
# the working directory.
COPY --from=build /volumes /
WORKDIR /etc/hexcache
ENV PATH=/opt/hexcache/bin:$PATH \
    HEXCACHE_DATA=/data \
    HEXCACHE_PUBLISH_CA=/ca \
    HEXCACHE_LISTEN__PROXY=0.0.0.0:8080 \
    HEXCACHE_LISTEN__MIRROR=0.0.0.0:4000 \
    HEXCACHE_LISTEN__TLS=0.0.0.0:8443 \
    HEXCACHE_LISTEN__STATUS=0.0.0.0:8081
VOLUME ["/data", "/ca"]
EXPOSE 8080 4000 8081 8443
# A number, for Kubernetes' runAsNonRoot; it needs no name.
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=1s \
  CMD ["hexcache", "health"]
ENTRYPOINT ["hexcache"]
CMD ["serve"]
