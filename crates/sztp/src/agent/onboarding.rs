//! Processing onboarding information
//! ([RFC 8572 §5.6](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.6)).

use artifacts::{
    bundle::BootstrappingData,
    conveyed::{
        self, BootImage, ConveyedInformation, ImageVerification, OnboardingInformation, Parsed,
    },
};

use super::{
    Bootstrapped, DOWNLOAD_URIS_MAX, Failure, INSTALLS_MAX, Input, Note, ProgressType,
    ScriptOutcome, ScriptStage, Step, What,
    machine::{Awaiting, Machine, Turn},
    report::{Report, Reports},
};
use crate::message::ReportProgressInput;

/// Onboarding information that is being processed.
#[derive(Debug)]
pub(super) struct Onboarding {
    information: OnboardingInformation,
    signed: bool,
    stage: Stage,
    reports: Reports,
    /// The report that is under way.
    sending: Option<Report>,
    /// Which location of the boot image comes next.
    uri: usize,
    image_failure: Option<Failure>,
    /// Whether the configuration switched SZTP off.
    disabled_sztp: bool,
    failure: Option<Failure>,
    /// Whether another address of the same server is tried after a failure: there was no data.
    other_addresses: bool,
}

/// SZTP-8572-5.6-01: "in that order".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Image,
    Rebooting,
    PreScript,
    Configuration,
    PostScript,
    Complete,
    Finish,
    /// Something went wrong; reports go out, and what was done is taken back.
    Failing,
}

impl Machine {
    fn reports(&self) -> Reports {
        let wanted = self.is_trusted() || defects::seeded!("sztp-device-reports-to-anybody");
        let verbose = self.link.as_ref().is_some_and(|link| link.verbose);
        Reports {
            wanted,
            verbose: verbose || self.config.verbose,
            queue: std::collections::VecDeque::new(),
        }
    }

    fn begin_onboarding(&mut self, information: OnboardingInformation, signed: bool, stage: Stage) {
        self.onboarding = Some(Onboarding {
            information,
            signed,
            stage,
            reports: self.reports(),
            sending: None,
            uri: 0,
            image_failure: None,
            disabled_sztp: false,
            failure: None,
            other_addresses: false,
        });
    }

    /// SZTP-8572-5.3-14: trusted onboarding information is processed.
    pub(super) fn onboard(
        &mut self,
        information: OnboardingInformation,
        signed: bool,
        tolerated: &[&str],
        turn: Turn<'_>,
    ) -> Step {
        self.begin_onboarding(information, signed, Stage::Image);
        // From here on there may be something to take back.
        self.state.onboarding = true;
        // SZTP-8572-5.6-02: "the device MUST send a 'bootstrap-initiated' progress report."
        if !defects::seeded!("sztp-device-begins-silently") {
            self.report(ProgressType::BootstrapInitiated, None);
        }
        self.report(ProgressType::ParsingInitiated, None);
        if !tolerated.is_empty() {
            let message = format!("tolerated: {}", tolerated.join(", "));
            self.report(ProgressType::ParsingWarning, Some(&message));
        }
        self.report(ProgressType::ParsingComplete, None);
        self.begin_image();
        self.go_on(turn)
    }

    /// Data that does not hold. A trusted server is told.
    ///
    /// SZTP-8572-5.6-10: "the device MUST try to send a 'parsing-error' progress report before
    /// exiting."
    pub(super) fn unusable(
        &mut self,
        data: &BootstrappingData,
        failure: Failure,
        turn: Turn<'_>,
    ) -> Step {
        // SZTP-8572-7.3-12: "Progress reports are not sent when processing redirect information".
        if !self.is_trusted() || self.looks_like_redirect(data) {
            return self.leave_server(failure, turn);
        }
        self.report_parsing_error(failure, false, turn)
    }

    /// An answer that is no message. "For instance, this could be due to malformed encoding".
    pub(super) fn unreadable(&mut self, failure: Failure, turn: Turn<'_>) -> Step {
        if !self.is_trusted() {
            return self.next_address(Some(failure), turn);
        }
        self.report_parsing_error(failure, true, turn)
    }

    fn report_parsing_error(
        &mut self,
        failure: Failure,
        other_addresses: bool,
        turn: Turn<'_>,
    ) -> Step {
        self.begin_onboarding(OnboardingInformation::default(), false, Stage::Failing);
        self.report(ProgressType::BootstrapInitiated, None);
        self.report(ProgressType::ParsingError, Some(&failure.to_string()));
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.failure = Some(failure);
            onboarding.other_addresses = other_addresses;
        }
        self.go_on(turn)
    }

    /// The kind of information that was not trusted, to know whether a report is in place.
    fn looks_like_redirect(&self, data: &BootstrappingData) -> bool {
        let tolerances = &self.config.tolerances;
        let (content, encoding) = match conveyed::parse(&data.conveyed_information, tolerances) {
            Ok(Parsed::Unsigned {
                encoding, content, ..
            }) => (content, encoding),
            // Shown to nobody and not acted upon: it decides whether to complain only.
            Ok(Parsed::Signed(signed)) => (signed.dangerous_peek().to_vec(), signed.encoding()),
            Ok(Parsed::Enveloped(_)) | Err(_) => return false,
        };
        ConveyedInformation::decode(&content, encoding, tolerances)
            .is_ok_and(|information| matches!(information, ConveyedInformation::Redirect(_)))
    }

    /// No certification request could be made. SZTP-9646-3.2-12: "raise an error".
    pub(super) fn csr_failed(&mut self, failure: Failure, turn: Turn<'_>) -> Step {
        self.begin_onboarding(OnboardingInformation::default(), false, Stage::Failing);
        self.report(ProgressType::BootstrapError, Some(&failure.to_string()));
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.failure = Some(failure);
        }
        self.go_on(turn)
    }

    fn report(&mut self, progress: ProgressType, message: Option<&str>) {
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.reports.push(progress, message);
        }
    }

    /// SZTP-8572-5.6-06: "If the device encounters an error at any step, it MUST stop processing
    /// the onboarding information".
    fn fail(&mut self, progress: ProgressType, failure: Failure, turn: Turn<'_>) -> Step {
        self.notes.push(Note::OnboardingFailed(failure.clone()));
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.stage = Stage::Failing;
            onboarding.reports.queue.clear();
            onboarding.reports.push(progress, Some(&failure.text));
            onboarding.failure = Some(failure);
        }
        self.go_on(turn)
    }

    /// Sends what is to be reported, then does what comes next.
    fn go_on(&mut self, turn: Turn<'_>) -> Step {
        let Some(onboarding) = &mut self.onboarding else {
            return Step::GiveUp(Failure::new("sztp.internal", "nothing is being processed"));
        };
        if let Some(report) = onboarding.reports.queue.pop_front() {
            onboarding.sending = Some(report.clone());
            let mut input = ReportProgressInput {
                progress: report.progress,
                message: report.message,
                ssh_host_keys: Vec::new(),
                trust_anchor_certs: Vec::new(),
            };
            // SZTP-8572-7.3-18: "only sent when the progress type is 'bootstrap-complete'".
            if report.progress == ProgressType::BootstrapComplete {
                input.ssh_host_keys.clone_from(&self.config.ssh_host_keys);
                input
                    .trust_anchor_certs
                    .clone_from(&self.config.trust_anchor_certs);
            }
            let body = input.encode(self.config.encoding);
            let request = self.operation(What::ReportProgress, body);
            return self.send(Awaiting::Report, request, turn);
        }
        match onboarding.stage {
            Stage::Image => self.fetch_image(turn),
            Stage::Rebooting => {
                // Nothing but the image is there yet, and that stays.
                self.state.onboarding = false;
                self.link = None;
                Step::Reboot
            }
            Stage::PreScript => self.run_script(ScriptStage::Pre, turn),
            Stage::Configuration => self.commit(turn),
            Stage::PostScript => self.run_script(ScriptStage::Post, turn),
            Stage::Complete => self.complete(turn),
            Stage::Finish => self.finish(turn),
            Stage::Failing => {
                if self.state.onboarding {
                    // SZTP-8572-5.6-08: "the retained state MUST NOT be active in any way".
                    self.awaiting = Awaiting::Undo;
                    return Step::RollBack;
                }
                self.abandon(turn)
            }
        }
    }

    fn abandon(&mut self, turn: Turn<'_>) -> Step {
        let (failure, other_addresses) = match self.onboarding.take() {
            Some(onboarding) => (onboarding.failure, onboarding.other_addresses),
            None => (None, false),
        };
        let failure =
            failure.unwrap_or_else(|| Failure::new("sztp.internal", "there was no failure"));
        if other_addresses {
            return self.next_address(Some(failure), turn);
        }
        self.leave_server(failure, turn)
    }

    /// The answer to a report, or that there was none.
    pub(super) fn report_answered(&mut self, status: Option<u16>, turn: Turn<'_>) -> Step {
        let Some(report) = self.onboarding.as_mut().and_then(|one| one.sending.take()) else {
            return Step::GiveUp(Failure::new("sztp.internal", "no report was under way"));
        };
        let accepted = status == Some(204) || defects::seeded!("sztp-device-minds-no-answer");
        self.notes.push(Note::Report {
            progress_type: report.progress.as_str(),
            message: report.message.clone(),
            status,
            accepted,
        });
        let failing = self
            .onboarding
            .as_ref()
            .is_some_and(|one| one.stage == Stage::Failing);
        // "If an error occurs, the device MUST try to send a 'bootstrap-error' progress report
        // before exiting."
        if !accepted && report.must_be_accepted() && !failing {
            let said = status.map_or_else(
                || "there was no answer".to_owned(),
                |status| format!("HTTP status {status}"),
            );
            let text = format!("{} was not taken: {said}", report.progress.as_str());
            return self.fail(
                ProgressType::BootstrapError,
                Failure::new("sztp.report-refused", text),
                turn,
            );
        }
        self.go_on(turn)
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.stage = stage;
        }
    }

    /// SZTP-8572-5.6-11: "the device MUST first determine if the boot image it is running
    /// satisfies the specified boot image criteria."
    fn begin_image(&mut self) {
        let wanted = self
            .onboarding
            .as_ref()
            .and_then(|one| one.information.boot_image.clone());
        let Some(wanted) = wanted else {
            self.begin_script(ScriptStage::Pre);
            return;
        };
        self.report(ProgressType::BootImageInitiated, None);
        let (satisfied, detail) = self.compare(&wanted);
        let satisfied = satisfied && !defects::seeded!("sztp-device-always-installs");
        self.notes.push(Note::BootImage {
            satisfied,
            detail: detail.clone(),
        });
        if satisfied {
            self.report(ProgressType::BootImageComplete, None);
            self.begin_script(ScriptStage::Pre);
        } else {
            self.report(ProgressType::BootImageMismatch, Some(&detail));
            self.stage(Stage::Image);
        }
    }

    fn compare(&self, wanted: &BootImage) -> (bool, String) {
        let running = &self.state.os;
        let differs = |wanted: &Option<String>, running: &Option<String>| {
            wanted.is_some() && wanted != running
        };
        let show = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        if differs(&wanted.os_name, &running.name) || differs(&wanted.os_version, &running.version)
        {
            let text = format!(
                "running {} {}, wanted {} {}",
                show(&running.name),
                show(&running.version),
                show(&wanted.os_name),
                show(&wanted.os_version),
            );
            return (false, text);
        }
        if wanted.os_name.is_some() || wanted.os_version.is_some() {
            return (true, "name and version are those wanted".to_owned());
        }
        // Without a name and a version, the fingerprint is all there is to compare.
        let is_running = |verification: &ImageVerification| {
            running.image_sha256.as_deref() == Some(hex::encode(&verification.value).as_str())
        };
        if wanted.download_uris.is_empty() {
            (true, "nothing is demanded of the boot image".to_owned())
        } else if wanted.image_verifications.iter().any(is_running) {
            (
                true,
                "the fingerprint is that of the running image".to_owned(),
            )
        } else {
            (
                false,
                "the fingerprint is not that of the running image".to_owned(),
            )
        }
    }

    /// SZTP-8572-5.6-12: "it MUST download, verify, and install, in that order".
    fn fetch_image(&mut self, turn: Turn<'_>) -> Step {
        let Some(onboarding) = &mut self.onboarding else {
            return Step::GiveUp(Failure::new("sztp.internal", "nothing is being processed"));
        };
        let image = onboarding
            .information
            .boot_image
            .clone()
            .unwrap_or_default();
        let refusal = if image.download_uris.is_empty() {
            Some((
                "sztp.image-no-uri",
                "the image is wanted, and no location is given",
            ))
        } else if image.image_verifications.is_empty() {
            // SZTP-8572-5.6-15: "the device MUST use either one of the verification fingerprints
            // supplied by the onboarding information or a cryptographic signature embedded into
            // the boot image". There is nothing embedded that this device could verify.
            Some((
                "sztp.image-no-fingerprint",
                "no fingerprint of the image is given",
            ))
        } else if self.state.installs >= INSTALLS_MAX {
            Some((
                "sztp.image-loop",
                "what was installed never is what is wanted",
            ))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            return self.fail(ProgressType::BootImageError, Failure::new(code, text), turn);
        }
        // SZTP-8572-5.6-14, SZTP-8572-6.3-09: only from the URIs that are given, in their order.
        let index = onboarding.uri;
        onboarding.uri += 1;
        let Some(uri) = image
            .download_uris
            .get(index)
            .filter(|_| index < DOWNLOAD_URIS_MAX)
        else {
            let failure = onboarding.image_failure.take();
            let failure =
                failure.unwrap_or_else(|| Failure::new("sztp.image-no-uri", "no location is left"));
            return self.fail(ProgressType::BootImageError, failure, turn);
        };
        let step = Step::FetchImage {
            uri: uri.clone(),
            verifications: verifications_of(&image, index),
        };
        self.awaiting = Awaiting::Image;
        step
    }

    fn image_installed(&mut self, turn: Turn<'_>) -> Step {
        let image = self
            .onboarding
            .as_ref()
            .and_then(|one| one.information.boot_image.clone())
            .unwrap_or_default();
        let fetched_from = self
            .onboarding
            .as_ref()
            .map_or(0, |one| one.uri.saturating_sub(1));
        let os = &mut self.state.os;
        if image.os_name.is_some() {
            os.name.clone_from(&image.os_name);
        }
        if image.os_version.is_some() {
            os.version.clone_from(&image.os_version);
        }
        os.image_sha256 = verifications_of(&image, fetched_from)
            .first()
            .map(|one| hex::encode(&one.value));
        self.state.installs = self.state.installs.saturating_add(1);
        // SZTP-8572-5.6-16: "Before rebooting, if connected to a trusted bootstrap server, the
        // device MUST try to send a 'boot-image-installed-rebooting' progress report."
        if !defects::seeded!("sztp-device-reboots-silently") {
            self.report(ProgressType::BootImageInstalledRebooting, None);
        }
        self.stage(Stage::Rebooting);
        self.go_on(turn)
    }

    fn begin_script(&mut self, stage: ScriptStage) {
        let script = self.onboarding.as_ref().is_some_and(|one| match stage {
            ScriptStage::Pre => one.information.pre_configuration_script.is_some(),
            ScriptStage::Post => one.information.post_configuration_script.is_some(),
        });
        match stage {
            ScriptStage::Pre if script => self.report(ProgressType::PreScriptInitiated, None),
            ScriptStage::Post if script => self.report(ProgressType::PostScriptInitiated, None),
            _ => {}
        }
        self.stage(match stage {
            ScriptStage::Pre => Stage::PreScript,
            ScriptStage::Post => Stage::PostScript,
        });
    }

    /// SZTP-8572-5.6-18, SZTP-8572-5.6-20: "the device MUST execute the script".
    fn run_script(&mut self, stage: ScriptStage, turn: Turn<'_>) -> Step {
        let information = self.onboarding.as_mut().map(|one| &mut one.information);
        let script = information.and_then(|information| match stage {
            ScriptStage::Pre => information.pre_configuration_script.take(),
            ScriptStage::Post => information.post_configuration_script.take(),
        });
        match (script, stage) {
            (Some(script), stage) => {
                self.awaiting = Awaiting::Script;
                Step::RunScript { stage, script }
            }
            (None, ScriptStage::Pre) => {
                self.begin_configuration();
                self.go_on(turn)
            }
            (None, ScriptStage::Post) => {
                self.stage(Stage::Complete);
                self.go_on(turn)
            }
        }
    }

    fn script_ended(&mut self, outcome: ScriptOutcome, output: &str, turn: Turn<'_>) -> Step {
        let stage = match self.onboarding.as_ref().map(|one| one.stage) {
            Some(Stage::PostScript) => ScriptStage::Post,
            _ => ScriptStage::Pre,
        };
        self.notes.push(Note::Script {
            stage,
            outcome,
            output: super::excerpt(output.as_bytes(), super::MESSAGE_CHARS_MAX),
        });
        let (warning, error, complete) = match stage {
            ScriptStage::Pre => (
                ProgressType::PreScriptWarning,
                ProgressType::PreScriptError,
                ProgressType::PreScriptComplete,
            ),
            ScriptStage::Post => (
                ProgressType::PostScriptWarning,
                ProgressType::PostScriptError,
                ProgressType::PostScriptComplete,
            ),
        };
        match outcome {
            // SZTP-8572-6.3-17: a hard error.
            ScriptOutcome::Error if !defects::seeded!("sztp-device-minds-no-script") => {
                // SZTP-8572-7.3-16: "The 'message' node below SHOULD capture any output the script
                // produces."
                let text = if output.trim().is_empty() {
                    "the script failed"
                } else {
                    output
                };
                return self.fail(error, Failure::new("sztp.script-error", text), turn);
            }
            // SZTP-8572-6.3-16: a soft error; bootstrapping goes on.
            ScriptOutcome::Warning => self.report(warning, Some(output)),
            ScriptOutcome::Success | ScriptOutcome::Error => {}
        }
        self.report(complete, None);
        match stage {
            ScriptStage::Pre => self.begin_configuration(),
            ScriptStage::Post => self.stage(Stage::Complete),
        }
        self.go_on(turn)
    }

    fn begin_configuration(&mut self) {
        let there = self
            .onboarding
            .as_ref()
            .is_some_and(|one| one.information.configuration.is_some());
        if there {
            self.report(ProgressType::ConfigInitiated, None);
        }
        self.stage(Stage::Configuration);
    }

    /// SZTP-8572-5.6-19: "the device MUST atomically commit the provided initial configuration,
    /// using the approach specified by the 'configuration-handling' leaf."
    fn commit(&mut self, turn: Turn<'_>) -> Step {
        let taken = self.onboarding.as_mut().and_then(|one| {
            let configuration = one.information.configuration.take()?;
            Some((configuration, one.information.configuration_handling?))
        });
        let Some((configuration, handling)) = taken else {
            self.begin_script(ScriptStage::Post);
            return self.go_on(turn);
        };
        self.awaiting = Awaiting::Commit;
        Step::Commit {
            configuration,
            handling,
        }
    }

    fn committed(&mut self, warning: Option<&str>, disables_sztp: bool, turn: Turn<'_>) -> Step {
        let handling = self
            .onboarding
            .as_ref()
            .and_then(|one| one.information.configuration_handling);
        self.notes.push(Note::Committed {
            handling: handling.map_or("", |handling| handling.as_str()),
            warning: warning.map(str::to_owned),
        });
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.disabled_sztp = disables_sztp;
        }
        if warning.is_some() {
            self.report(ProgressType::ConfigWarning, warning);
        }
        self.report(ProgressType::ConfigComplete, None);
        self.begin_script(ScriptStage::Post);
        self.go_on(turn)
    }

    fn complete(&mut self, turn: Turn<'_>) -> Step {
        let disabled = self
            .onboarding
            .as_ref()
            .is_some_and(|one| one.disabled_sztp);
        // SZTP-8572-5.6-21: "the device SHOULD send an 'bootstrap-warning' progress report."
        if !disabled {
            self.report(
                ProgressType::BootstrapWarning,
                Some("SZTP bootstrapping is still enabled"),
            );
        }
        // SZTP-8572-5.6-22: "the device MUST send a 'bootstrap-complete' progress report."
        if !defects::seeded!("sztp-device-ends-silently") {
            self.report(ProgressType::BootstrapComplete, None);
        }
        self.stage(Stage::Finish);
        self.go_on(turn)
    }

    fn finish(&mut self, turn: Turn<'_>) -> Step {
        let disabled = self
            .onboarding
            .as_ref()
            .is_some_and(|one| one.disabled_sztp);
        let signed = self.onboarding.as_ref().is_some_and(|one| one.signed);
        // One write says that all of it is there to stay.
        self.state.bootstrapped = Some(Bootstrapped {
            source: self.source_name(),
            server: self.server(),
            reported: self.is_trusted(),
            signed,
            at: turn.now,
        });
        self.state.enabled = !disabled;
        self.state.onboarding = false;
        self.state.rounds = 0;
        self.state.installs = 0;
        self.state.not_before = None;
        self.state.last_failure = None;
        self.notes.push(Note::Bootstrapped);
        self.awaiting = Awaiting::Finish;
        Step::Finish
    }

    /// A step of the onboarding was carried out, or not.
    pub(super) fn onboarding_went_on(
        &mut self,
        awaiting: Awaiting,
        input: Input<'_>,
        turn: Turn<'_>,
    ) -> Step {
        match (awaiting, input) {
            (Awaiting::Image, Input::Done { warning }) => {
                self.image_fetched(None);
                if warning.is_some() {
                    self.report(ProgressType::BootImageWarning, warning);
                }
                self.awaiting = Awaiting::Install;
                Step::InstallImage
            }
            (Awaiting::Image, Input::Failed(failure)) => {
                self.image_fetched(Some(failure));
                self.go_on(turn)
            }
            (Awaiting::Install, Input::Done { .. }) => self.image_installed(turn),
            (Awaiting::Install, Input::Failed(failure)) => {
                self.fail(ProgressType::BootImageError, failure, turn)
            }
            (Awaiting::Script, Input::ScriptEnded { outcome, output }) => {
                self.script_ended(outcome, output, turn)
            }
            (Awaiting::Script, Input::Failed(failure)) => {
                self.script_ended(ScriptOutcome::Error, &failure.to_string(), turn)
            }
            (
                Awaiting::Commit,
                Input::Committed {
                    warning,
                    disables_sztp,
                },
            ) => self.committed(warning, disables_sztp, turn),
            (Awaiting::Commit, Input::Failed(failure)) => {
                self.fail(ProgressType::ConfigError, failure, turn)
            }
            (Awaiting::Undo, Input::Done { .. }) => {
                self.state.onboarding = false;
                self.abandon(turn)
            }
            (Awaiting::Finish, Input::Done { .. }) => match self.state.bootstrapped.clone() {
                Some(bootstrapped) => Step::Done(bootstrapped),
                None => Step::GiveUp(Failure::new("sztp.internal", "it was not finished")),
            },
            (awaiting, input) => {
                let text = format!("{awaiting:?} was waited for, and {input:?} came");
                let text = super::excerpt(text.as_bytes(), super::EXCERPT_CHARS_MAX);
                Step::GiveUp(Failure::new("sztp.internal", text))
            }
        }
    }

    fn image_fetched(&mut self, refusal: Option<Failure>) {
        let uri = self.onboarding.as_ref().and_then(|one| {
            let uris = &one.information.boot_image.as_ref()?.download_uris;
            uris.get(one.uri.checked_sub(1)?).cloned()
        });
        self.notes.push(Note::ImageFetched {
            uri: uri.unwrap_or_default(),
            refusal: refusal.clone(),
        });
        if let Some(onboarding) = &mut self.onboarding {
            onboarding.image_failure = refusal;
        }
    }
}

/// The fingerprints for the location of this index. Where a tolerance lets one algorithm stand
/// several times, entry n is for location n.
fn verifications_of(image: &BootImage, index: usize) -> Vec<ImageVerification> {
    let all = &image.image_verifications;
    let repeated = all.iter().enumerate().any(|(at, one)| {
        all.iter()
            .skip(at + 1)
            .any(|other| other.algorithm == one.algorithm)
    });
    if repeated {
        all.get(index).cloned().into_iter().collect()
    } else {
        all.clone()
    }
}
