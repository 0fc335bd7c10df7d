"""Senders tell us what happens elsewhere. To add one: one file here, one line in SENDERS."""

from watchdog.senders.alertmanager import AlertmanagerSender
from watchdog.senders.argocd import ArgoCdSender
from watchdog.senders.cdevents import CdEventsSender
from watchdog.senders.flagger import FlaggerSender
from watchdog.senders.github import GithubSender
from watchdog.senders.gitlab import GitlabSender
from watchdog.sending import Sender

SENDERS: dict[str, type[Sender]] = {
    "github": GithubSender,
    "gitlab": GitlabSender,
    "argocd": ArgoCdSender,
    "flagger": FlaggerSender,
    "cdevents": CdEventsSender,
    "alertmanager": AlertmanagerSender,
}
