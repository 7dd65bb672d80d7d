# Jupyter Server reads this file from /etc/jupyter, and the password from JUPYTER_TOKEN.
import os

c = get_config()  # noqa: F821 - defined by Jupyter

c.ServerApp.ip = os.environ.get("JUPYTER_IP", "0.0.0.0")  # noqa: S104 - inside the container
c.ServerApp.port = int(os.environ.get("JUPYTER_PORT", "8888"))
c.ServerApp.port_retries = 0  # the proxy knows only this port
c.ServerApp.base_url = os.environ.get("JUPYTER_BASE_URL", "/")
c.ServerApp.allow_root = True  # root has no privileges outside the container
c.ServerApp.allow_remote_access = True  # the proxy checks Host and Origin
c.ServerApp.open_browser = False
c.ServerApp.quit_button = True

# Files must not be lost with the container if the user saves them in the default directory.
c.ServerApp.root_dir = "/"
c.FileContentsManager.preferred_dir = "/safe_outputs" if os.path.isdir("/safe_outputs") else "/"
c.FileContentsManager.delete_to_trash = False  # the trash would be lost
c.FileContentsManager.allow_hidden = True

# Allow large outputs and uploads.
c.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = 1e12
c.ZMQChannelsWebsocketConnection.iopub_msg_rate_limit = 1e9
c.ServerApp.max_body_size = 2**40
c.ServerApp.max_buffer_size = 2**30


def without_token(_handler: object, page_config: dict[str, object]) -> dict[str, object]:
    """Remove the token from the page, which does not need it: the proxy adds it to each request."""
    return page_config | {"token": ""}


c.ServerApp.tornado_settings = {"page_config_hook": without_token}

# There is no internet access for news, extensions or versions.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LanguageServerManager.autodetect = False  # it would find none, and log forty names
