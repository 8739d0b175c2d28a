"""XKD: two masked autoencoders that learn from each other's exponential moving average.

Shapes: B samples, U student views, L local views, D width, K outputs of a head.
"""

from itertools import chain
from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from xkd.kernels.distill_ce import distill_ce, teacher_probabilities
from xkd.kernels.masked_recon_loss import masked_recon_loss
from xkd.kernels.precision import at_least_float32
from xkd.kernels.random_mask import Mask, random_mask
from xkd.losses import ALONE, LossConfig, Ranks, alignment, total
from xkd.model.autoencoder import Reconstruction, reconstruct
from xkd.model.config import Modality, ModelConfig
from xkd.model.geometry import by, check_views, visible_tokens
from xkd.model.networks import Student, Teacher, build_networks
from xkd.model.output import XKDOutput
from xkd.model.refinement import refined_feature, token_weights
from xkd.model.tokenizers import volume

OTHER: dict[Modality, Modality] = {"video": "audio", "audio": "video"}
MASK_STREAMS: dict[Modality, int] = {"video": 0, "audio": 1}


class _StudentPass(NamedTuple):
    feature_BD: Tensor  # mean visible token of the global view
    recon: Tensor | None
    outputs_UBK: Tensor | None


class XKD(nn.Module):
    """The whole network; `forward` is the loss of one training step.

    Shapes are those of one view without the batch: (3, T, H, W) and (1, mel bands, steps); a local shape is None where there are no
    local views. `ranks` are those of the global batch. `seed` decides initialisation and masks.
    Raises ValueError where a view cannot be cut into tokens, or one that the configuration needs is missing.
    """

    def __init__(
        self,
        model: ModelConfig,
        loss: LossConfig,
        *,
        video_shape: tuple[int, ...],
        audio_shape: tuple[int, ...],
        local_video_shape: tuple[int, ...] | None,
        local_audio_shape: tuple[int, ...] | None,
        seed: int,
        ranks: Ranks = ALONE,
    ):
        super().__init__()
        check_views(model, video_shape, audio_shape, local_video_shape, local_audio_shape)
        self.model_config, self.loss_config, self.seed, self.ranks = model, loss, seed, ranks
        networks = build_networks(model, video_shape, audio_shape, seed)
        self.video_student, self.audio_student, self.video_teacher, self.audio_teacher = networks

    def forward(
        self,
        video_global: Tensor,
        video_local: Tensor | None,
        audio_global: Tensor,
        audio_local: Tensor | None,
        *,
        step: int | Tensor,
        first_row: int = 0,
        teacher_temperature_video: float | Tensor | None = None,
        teacher_temperature_audio: float | Tensor | None = None,
        cross_modal: bool = True,
        noise_video: Tensor | None = None,
        noise_audio: Tensor | None = None,
    ) -> XKDOutput:
        """The loss of this rank's global views [B, ...] and local views [B, L, ...].

        `first_row` is the position of these samples in the global batch: with `step`, a number or an int64 tensor on the views'
        device, it decides the masks. A teacher temperature, a number or a tensor likewise, defaults to the configuration's at epoch
        0. Without `cross_modal` distillation and alignment are computed and do not count. `noise` [B, N] replaces the masks' random
        bits.
        Raises ValueError where the batch would split an alignment group.
        """
        weights = self.loss_config.weights
        self.loss_config.check_batch(len(video_global))
        video_mask = self.draw_mask("video", video_global, step, first_row, noise_video)
        audio_mask = self.draw_mask("audio", audio_global, step, first_row, noise_audio)
        students = {
            "video": self._student_pass(self.video_student, video_global, video_local, video_mask),
            "audio": self._student_pass(self.audio_student, audio_global, audio_local, audio_mask),
        }
        parts = {}
        stats = {f"feature_std_{modality}": _deviation(student.feature_BD) for modality, student in students.items()}
        means = {"video": self.video_teacher.center, "audio": self.audio_teacher.center}
        if weights.recon:
            parts |= _with_mean("recon", recon_video=students["video"].recon, recon_audio=students["audio"].recon)
        if weights.cmkd or weights.align:
            local = self.model_config.teacher_view == "local"
            video_view, audio_view = (video_local[:, 0], audio_local[:, 0]) if local else (video_global, audio_global)
            teachers = self._teach({"video": video_view, "audio": audio_view})
            temperatures = self._teacher_temperatures(teacher_temperature_video, teacher_temperature_audio)
            stats |= self._teacher_stats(teachers, temperatures)
        if weights.cmkd:
            v2a, a2v = (self._distill(modality, teachers, students, temperatures) for modality in OTHER)
            parts |= _with_mean("cmkd", v2a=v2a, a2v=a2v)
            means = {modality: outputs_BK.mean(0) for modality, outputs_BK in teachers.items()}
        if weights.align:
            features = {f"student_{modality}": student.outputs_UBK for modality, student in students.items()}
            features |= {f"teacher_{modality}": outputs_BK[None] for modality, outputs_BK in teachers.items()}
            of_students, of_teachers = alignment(features, self.loss_config.align_group, self.ranks)
            parts |= _with_mean("align", align_student=of_students, align_teacher=of_teachers)
        loss = total(parts, weights, cross_modal)
        parts = {name: part.detach() for name, part in parts.items()}
        return XKDOutput(loss, parts, stats, teacher_mean_video=means["video"].clone(), teacher_mean_audio=means["audio"].clone())

    def draw_mask(self, modality: Modality, clip: Tensor, step: int | Tensor, first_row: int, noise: Tensor | None = None) -> Mask:
        """The masks of a batch of global views: a function of seed, modality, step and position in the global batch.

        Raises ValueError where the views are not of the network's size, since decoders have positions for no other.
        """
        tokenizer = self._student(modality).encoder.tokenizer
        if (grid := tokenizer.grid_of(clip)) != tokenizer.grid:
            raise ValueError(f"global {modality} view: has {by(grid)} tokens, but the network was built for {by(tokenizer.grid)}")
        num_tokens = tokenizer.num_tokens
        num_keep = visible_tokens(num_tokens, getattr(self.model_config, modality).mask_ratio)
        stream = MASK_STREAMS[modality]
        return random_mask(self.seed, stream, step, first_row, len(clip), num_tokens, num_keep, device=clip.device, noise=noise)

    def reconstruct(self, clip: Tensor, modality: Modality, *, step: int = 0, first_row: int = 0) -> Reconstruction:
        """Pictures of masked reconstruction of global views, in their normalised units; see autoencoder.reconstruct."""
        student = self._student(modality)
        mask = self.draw_mask(modality, clip, step, first_row)
        return reconstruct(student.encoder, student.decoder, clip, mask, self.loss_config.norm_pix_loss)

    def patch_means(self, clip: Tensor, modality: Modality) -> Tensor:
        """A global view with every patch replaced by its own mean: what `reconstruct` has to beat in the masked places."""
        return self._student(modality).encoder.tokenizer.patch_means(clip)

    def teacher_pairs(self) -> dict[Modality, list[tuple[Tensor, Tensor]]]:
        """(teacher, student) parameters by the modality whose momentum moves them, to be updated in this order.

        Teacher blocks that both modalities share move once, with video's momentum; with `shared_ema: release` they stand in both
        lists and move twice.
        """
        pairs = {
            modality: list(zip(_followed(self._teacher(modality)), _followed(self._student(modality)), strict=True))
            for modality in OTHER
        }
        if self.model_config.shared_ema == "once":
            moved = {id(teacher) for teacher, _ in pairs["video"]}
            pairs["audio"] = [pair for pair in pairs["audio"] if id(pair[0]) not in moved]
        return pairs

    def compile_blocks(self) -> None:
        """Compiles every transformer block, of students and teachers; what lies between them stays eager."""
        for module in self.modules():
            if isinstance(module, Block):
                module.compile()

    @torch.no_grad()
    def update_centers(self, video_mean: Tensor, audio_mean: Tensor) -> None:
        """center <- m center + (1 - m) mean, from the teachers' mean outputs over the global batch; after an applied step."""
        for modality, mean_K in (("video", video_mean), ("audio", audio_mean)):
            center_K = self._teacher(modality).center
            center_K.lerp_(mean_K.to(center_K), 1 - getattr(self.loss_config, modality).center_momentum)

    @staticmethod
    def is_student_parameter(name: str) -> bool:
        """Whether the parameter of this name belongs to a student's encoder or head (and not to its decoder)."""
        network, part = name.split(".")[:2]
        return network.endswith("_student") and part in ("encoder", "head")

    def _student(self, modality: Modality) -> Student:
        return getattr(self, f"{modality}_student")

    def _teacher(self, modality: Modality) -> Teacher:
        return getattr(self, f"{modality}_teacher")

    def _student_pass(self, student: Student, clip: Tensor, local_BL: Tensor | None, mask: Mask) -> _StudentPass:
        """Encodes the visible tokens of the global view and, where they serve a term, its masked tokens and the local views."""
        config, encoder = self.loss_config, student.encoder
        visible = encoder(clip, mask.keep)
        feature_BD = encoder.patch_tokens(visible).mean(1)
        recon = outputs_UBK = None
        if config.weights.recon:
            predicted = student.decoder(visible, mask)
            recon = masked_recon_loss(volume(clip), mask.drop, predicted, encoder.tokenizer.patch, config.norm_pix_loss)
        if config.weights.cmkd or config.weights.align:
            features_UBD = feature_BD[None]
            if local_BL is not None:
                local_LBD = encoder.features(local_BL.transpose(0, 1).flatten(0, 1)).unflatten(0, (-1, len(clip)))
                features_UBD = torch.cat([features_UBD, local_LBD])
            outputs_UBK = student.head(features_UBD)
        return _StudentPass(feature_BD, recon, outputs_UBK)

    @torch.no_grad()
    def _teach(self, clips: dict[Modality, Tensor]) -> dict[Modality, Tensor]:
        """The teachers' outputs [B, K] from one unmasked view of each modality, refined by the attention of both."""
        tokens, attention = {}, {}
        for modality, clip in clips.items():
            encoder = self._teacher(modality).encoder
            encoded, attention[modality] = encoder(clip, with_attention=True)
            tokens[modality] = encoder.patch_tokens(encoded)
        outputs = {}
        for modality, other in OTHER.items():
            weights_BN = token_weights(attention[modality], attention[other], self.model_config.refinement)
            outputs[modality] = self._teacher(modality).head(refined_feature(tokens[modality], weights_BN))
        return outputs

    def _distill(self, source: Modality, teachers, students, temperatures) -> Tensor:
        """Distillation from the teacher of one modality to the student of the other."""
        return distill_ce(
            teachers[source][None],
            self._teacher(source).center,
            students[OTHER[source]].outputs_UBK,
            temperatures[source],
            self.loss_config.student_temperature_of(OTHER[source]),
        )

    def _teacher_temperatures(self, video: float | Tensor | None, audio: float | Tensor | None) -> dict[Modality, float | Tensor]:
        config = self.loss_config
        return {
            "video": config.video.teacher_temperature_at(0) if video is None else video,
            "audio": config.audio.teacher_temperature_at(0) if audio is None else audio,
        }

    @torch.no_grad()
    def _teacher_stats(self, teachers: dict[Modality, Tensor], temperatures: dict[Modality, float | Tensor]) -> dict[str, Tensor]:
        """The mean entropy of the teachers' sharpened outputs (a flat one has log K) and the norm of their centres."""
        stats = {}
        for modality, outputs_BK in teachers.items():
            center_K = self._teacher(modality).center
            probabilities_BK = teacher_probabilities(outputs_BK, center_K, temperatures[modality])
            stats[f"teacher_entropy_{modality}"] = torch.special.entr(probabilities_BK).sum(-1).mean()
            stats[f"center_norm_{modality}"] = at_least_float32(center_K).norm()
        return stats


def _followed(network: Student | Teacher) -> chain[Tensor]:
    """The parameters that an exponential moving average follows, in the same order for student and teacher."""
    return chain(network.encoder.parameters(), network.head.parameters())


def _with_mean(name: str, **terms: Tensor) -> dict[str, Tensor]:
    return {**terms, name: sum(terms.values()) / len(terms)}


def _deviation(feature_BD: Tensor) -> Tensor:
    """How far the samples of a batch lie apart: the deviation over samples, averaged over dimensions. 0 means collapse."""
    return feature_BD.detach().float().std(0, correction=0).mean()
